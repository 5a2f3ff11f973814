package ingest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/sightline-dev/sightline/services/ingest"
)

func TestCauseOf(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want ingest.Cause
	}{
		{"none", nil, ingest.CauseNone},
		{"given", ingest.WithCause(ingest.CauseAuth, io.EOF), ingest.CauseAuth},
		{"given inside", fmt.Errorf("x: %w", ingest.WithCause(ingest.CauseCodec, io.EOF)), ingest.CauseCodec},
		{"outermost wins", ingest.WithCause(ingest.CauseStalled, ingest.WithCause(ingest.CauseAuth, io.EOF)), ingest.CauseStalled},
		{"refused", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, ingest.CauseRefused},
		{"no route", syscall.EHOSTUNREACH, ingest.CauseRefused},
		{"deadline", os.ErrDeadlineExceeded, ingest.CauseTimeout},
		{"context deadline", context.DeadlineExceeded, ingest.CauseTimeout},
		{"canceled", context.Canceled, ingest.CauseCanceled},
		{"name", &net.DNSError{Err: "no such host", Name: "cam", IsNotFound: true}, ingest.CauseNotFound},
		{"name server", &net.DNSError{Err: "i/o timeout", Name: "cam", IsTimeout: true}, ingest.CauseTimeout},
		{"EOF", fmt.Errorf("read: %w", io.EOF), ingest.CauseClosed},
		{"reset", syscall.ECONNRESET, ingest.CauseClosed},
		{"authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, ingest.CauseTLS},
		{"no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, ingest.CauseTLS},
		{"host name", x509.HostnameError{Certificate: &x509.Certificate{}}, ingest.CauseTLS},
		{"other", errors.New("other"), ingest.CauseUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ingest.CauseOf(test.err); got != test.want {
				t.Errorf("cause is %q, want %q", got, test.want)
			}
		})
	}
}

func TestWithCause(t *testing.T) {
	if err := ingest.WithCause(ingest.CauseAuth, nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	err := ingest.WithCause(ingest.CauseAuth, io.EOF)
	if err.Error() != "EOF" || !errors.Is(err, io.EOF) {
		t.Errorf("error is %q", err)
	}
}

func TestCausesAreListedOnce(t *testing.T) {
	all := ingest.Causes()
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) || slices.Contains(all, ingest.CauseNone) {
		t.Errorf("causes are %v", all)
	}
}
