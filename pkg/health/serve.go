package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	headersWithin = 2 * time.Second
	answerWithin  = 10 * time.Second
	// endWithin is how long an answer under way may take when the server ends.
	endWithin = time.Second
	// maxConnections at a time; more are closed at once.
	maxConnections = 64
	maxHeaderBytes = 8 << 10
)

// Listen listens at an address, host:port. No host is loopback.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen at %q: %w", address, err)
	}
	if host == "" {
		host = loopback4
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another process: %w", address, err)
	}
	return l, err
}

// Serve answers at l until ctx ends, and then finishes the answers under way for up to a second. It closes l.
func (b *Board) Serve(ctx context.Context, l net.Listener) error {
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { b.watch(watching) })
	defer watch.Wait()
	defer stop()
	s := &http.Server{
		Handler: b.mux, ConnState: bounded(), MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(b.cfg.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: headersWithin, ReadTimeout: headersWithin, WriteTimeout: answerWithin,
	}
	s.SetKeepAlivesEnabled(false) // who asks, asks every few seconds; nobody occupies a connection meanwhile
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("answer at %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if s.Shutdown(end) != nil {
		_ = s.Close() // whoever still reads had a second
	}
	_ = <-served // that it was closed
	return nil
}

// bounded closes connections beyond maxConnections.
func bounded() func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			if open.Add(1) > maxConnections {
				_ = c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		default:
		}
	}
}

// handler answers as Kubernetes' own end points do: 200 or 503, with every check when asked for ?verbose. Without that
// it is JSON.
func (g *group) handler(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := g.ask()
		code := http.StatusOK
		if !a.OK {
			code = http.StatusServiceUnavailable
		}
		if !r.URL.Query().Has("verbose") {
			answer(w, code, a)
			return
		}
		var text strings.Builder
		for _, name := range slices.Sorted(maps.Keys(a.Checks)) {
			if c := a.Checks[name]; c.OK {
				_, _ = fmt.Fprintf(&text, "[+]%s ok\n", name)
			} else {
				_, _ = fmt.Fprintf(&text, "[-]%s failed: %s\n", name, c.Why)
			}
		}
		result := "passed"
		if !a.OK {
			result = "failed"
		}
		_, _ = fmt.Fprintf(&text, "%s check %s\n", path, result)
		write(w, code, "text/plain; charset=utf-8", []byte(text.String()))
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // none of our types can
		code, data = http.StatusInternalServerError, []byte(`{}`)
	}
	write(w, code, "application/json", append(data, '\n'))
}

func write(w http.ResponseWriter, code int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// Build is what the program was built from.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	// Modified means that the work tree had changes on top of the revision.
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// ReadBuild is what the linker noted of this program.
func ReadBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Build{Version: "unknown"}
	}
	b := Build{Version: info.Main.Version, Go: info.GoVersion}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
