package rtsp

import (
	"errors"
	"fmt"

	"github.com/bluenviron/gortsplib/v4/pkg/base"
	"github.com/bluenviron/gortsplib/v4/pkg/liberrors"

	"github.com/sightline-dev/sightline/services/ingest"
)

// classify names the step that failed and gives the error its cause.
func classify(step string, err error) error {
	return ingest.WithCause(causeOf(err), fmt.Errorf("rtsp %s: %w", step, err))
}

func causeOf(err error) ingest.Cause {
	if e, ok := errors.AsType[liberrors.ErrClientBadStatusCode](err); ok {
		return causeOfStatus(e.Code)
	}
	if _, ok := errors.AsType[liberrors.ErrClientAuthSetup](err); ok {
		return ingest.CauseAuth
	}
	if _, ok := errors.AsType[liberrors.ErrClientRequestTimedOut](err); ok {
		return ingest.CauseTimeout
	}
	if _, ok := errors.AsType[liberrors.ErrClientUDPTimeout](err); ok {
		return ingest.CauseStalled
	}
	if _, ok := errors.AsType[liberrors.ErrClientTCPTimeout](err); ok {
		return ingest.CauseStalled
	}
	if cause := ingest.CauseOf(err); cause != ingest.CauseUnknown {
		return cause
	}
	// Everything else the library complains about is something the camera should not have said.
	return ingest.CauseProtocol
}

func causeOfStatus(code base.StatusCode) ingest.Cause {
	switch code {
	case base.StatusUnauthorized, base.StatusForbidden, base.StatusProxyAuthRequired:
		return ingest.CauseAuth
	case base.StatusNotFound, base.StatusGone:
		return ingest.CauseNotFound
	case base.StatusServiceUnavailable, base.StatusNotEnoughBandwidth:
		return ingest.CauseRefused // no free session
	case base.StatusRequestTimeout, base.StatusGatewayTimeout:
		return ingest.CauseTimeout
	default:
		return ingest.CauseProtocol
	}
}
