package access_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// plain speaks to the broker without TLS, which no client library does.
func (s *site) plain(t *testing.T) {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "tls://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if hello, err := r.ReadString('\n'); err != nil || !strings.Contains(hello, `"tls_required":true`) {
		t.Fatalf("hello %q: %v", hello, err)
	}
	if _, err := fmt.Fprint(conn, "CONNECT {\"verbose\":false}\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || strings.Contains(string(rest), "PONG") {
		t.Errorf("a client without TLS is answered %q, %v", rest, err)
	}
}
