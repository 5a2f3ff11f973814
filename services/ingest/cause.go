package ingest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// A Cause says in one word why a camera is not live. The set is closed, so a cause can be a metric label.
type Cause string

// The causes.
const (
	CauseNone     Cause = ""          // no error
	CauseAuth     Cause = "auth"      // the camera does not accept the user name or password
	CauseRefused  Cause = "refused"   // nothing listens there, or no route leads there
	CauseTimeout  Cause = "timeout"   // no answer in time while connecting
	CauseNotFound Cause = "not_found" // the camera has no such stream (RTSP 404), or its name does not resolve
	CauseCodec    Cause = "codec"     // no video in a codec we know, or nothing of it can be decoded
	CauseStalled  Cause = "stalled"   // connected, but no picture arrives
	CauseDamaged  Cause = "damaged"   // connected, but what arrives is damaged and no key frame came since
	CauseTLS      Cause = "tls"       // certificate or handshake
	CauseClosed   Cause = "closed"    // the camera ended the connection
	CauseProtocol Cause = "protocol"  // the camera answered something that makes no sense
	CauseConfig   Cause = "config"    // the URL or an option cannot work, whatever the camera does
	CauseCanceled Cause = "canceled"  // we were told to stop
	CauseUnknown  Cause = "unknown"   // none of the above
)

// Causes lists every cause but [CauseNone].
func Causes() []Cause {
	return []Cause{
		CauseAuth, CauseRefused, CauseTimeout, CauseNotFound, CauseCodec, CauseStalled, CauseDamaged, CauseTLS,
		CauseClosed, CauseProtocol, CauseConfig, CauseCanceled, CauseUnknown,
	}
}

// A CauseError is an error with a [Cause].
type CauseError struct {
	Cause Cause
	Err   error
}

// WithCause gives err a cause; it returns nil for a nil err.
func WithCause(cause Cause, err error) error {
	if err == nil {
		return nil
	}
	return &CauseError{Cause: cause, Err: err}
}

// Error implements error: the text is that of the error inside.
func (e *CauseError) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *CauseError) Unwrap() error { return e.Err }

// CauseOf finds the cause of err: the outermost [CauseError]'s, or what the standard library's network and TLS
// errors tell, or [CauseUnknown].
func CauseOf(err error) Cause {
	if err == nil {
		return CauseNone
	}
	if e, ok := errors.AsType[*CauseError](err); ok {
		return e.Cause
	}
	switch {
	case errors.Is(err, context.Canceled):
		return CauseCanceled
	case isTLS(err):
		return CauseTLS
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return CauseTimeout
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return CauseRefused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return CauseClosed
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return CauseNotFound
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return CauseTimeout
	}
	return CauseUnknown
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}
