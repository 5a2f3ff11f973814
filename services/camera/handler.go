package camera

import (
	"strings"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/bluenviron/gortsplib/v4/pkg/base"
	"github.com/bluenviron/gortsplib/v4/pkg/liberrors"
)

var (
	_ gortsplib.ServerHandlerOnDescribe         = (*handler)(nil)
	_ gortsplib.ServerHandlerOnSetup            = (*handler)(nil)
	_ gortsplib.ServerHandlerOnPlay             = (*handler)(nil)
	_ gortsplib.ServerHandlerOnPause            = (*handler)(nil)
	_ gortsplib.ServerHandlerOnSessionClose     = (*handler)(nil)
	_ gortsplib.ServerHandlerOnStreamWriteError = (*handler)(nil)
)

// handler answers the RTSP requests of one life of the camera.
type handler struct{ s *Server }

// OnDescribe implements [gortsplib.ServerHandlerOnDescribe].
func (h *handler) OnDescribe(ctx *gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	return h.admit(ctx.Conn, ctx.Request, ctx.Path)
}

// OnSetup implements [gortsplib.ServerHandlerOnSetup].
func (h *handler) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if h.s.cfg.NoTCP && ctx.Transport == gortsplib.TransportTCP {
		return &base.Response{StatusCode: base.StatusUnsupportedTransport}, nil, nil
	}
	return h.admit(ctx.Conn, ctx.Request, ctx.Path)
}

func (h *handler) admit(conn *gortsplib.ServerConn, req *base.Request, path string) (*base.Response, *gortsplib.ServerStream, error) {
	cfg := h.s.cfg
	if cfg.User != "" && !conn.VerifyCredentials(req, cfg.User, cfg.Password) {
		return &base.Response{StatusCode: base.StatusUnauthorized}, nil, liberrors.ErrServerAuth{}
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.s.stream == nil || strings.Trim(path, "/") != cfg.Path {
		return &base.Response{StatusCode: base.StatusNotFound}, nil, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, h.s.stream, nil
}

// OnPlay implements [gortsplib.ServerHandlerOnPlay].
func (h *handler) OnPlay(ctx *gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if t := ctx.Session.SetuppedTransport(); t != nil {
		h.s.players[ctx.Session] = *t
	}
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnPause implements [gortsplib.ServerHandlerOnPause].
func (h *handler) OnPause(ctx *gortsplib.ServerHandlerOnPauseCtx) (*base.Response, error) {
	h.leave(ctx.Session)
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnSessionClose implements [gortsplib.ServerHandlerOnSessionClose].
func (h *handler) OnSessionClose(ctx *gortsplib.ServerHandlerOnSessionCloseCtx) { h.leave(ctx.Session) }

// OnStreamWriteError implements [gortsplib.ServerHandlerOnStreamWriteError]: a viewer that does not keep up loses
// packets, and without this method the library prints about it.
func (h *handler) OnStreamWriteError(*gortsplib.ServerHandlerOnStreamWriteErrorCtx) {}

func (h *handler) leave(session *gortsplib.ServerSession) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	delete(h.s.players, session)
}
