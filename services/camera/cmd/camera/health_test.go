package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/camera/cameratest"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	s := cameratest.Start(t, camera.Config{Listen: "127.0.0.1:0", Path: "cam", User: "u", Password: "p", Footage: cameratest.Footage(t, cameratest.Clip{Codec: "mjpeg"})})
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, listen := range []string{s.Addr(), "0.0.0.0:" + port, ":" + port} {
		if err := health(t.Context(), []string{"--listen", listen}, &out); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
	for name, args := range map[string][]string{"no port": {"--listen", "cam"}, "not TLS": {"--listen", s.Addr(), "--tls"}, "unknown": {"--now"}} {
		if health(t.Context(), args, &out) == nil {
			t.Errorf("%s: healthy", name)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	}()
	if err := health(t.Context(), []string{"--listen", l.Addr().String()}, &out); err == nil || !strings.Contains(err.Error(), "is no camera") {
		t.Errorf("something else: %v", err)
	}
	_ = l.Close()
	if err := health(t.Context(), []string{"--listen", l.Addr().String()}, &out); err == nil || !strings.HasPrefix(err.Error(), "no answer") {
		t.Errorf("nobody: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if health(ended, []string{"--listen", s.Addr()}, &out) == nil {
		t.Error("asks on")
	}
}
