package health_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/pkg/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves b until the test ends or stop is called, which returns what Serve did.
func serve(t *testing.T, b *health.Board) (address string, stop func() error) {
	t.Helper()
	l, err := health.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() { _ = stop() })
	return l.Addr().String(), stop
}

func get(t *testing.T, address, path string) (code int, kind, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(data)
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&v); err != nil {
		t.Fatal(err, body)
	}
	return v
}

func TestLiveAndReadyAreTwoThings(t *testing.T) {
	t.Parallel()
	b := health.New(health.Config{Service: "infer", Instance: "a"})
	var broker, beat health.Flag
	b.Ready("broker", broker.Check)
	b.Live("beat", beat.Check)
	address, _ := serve(t, b)
	for _, c := range []struct {
		name         string
		broker, beat error
		live, ready  int
	}{
		{"well", nil, nil, 200, 200},
		{"not ready", errors.New("away"), nil, 200, 503},
		{"hangs", nil, errors.New("hangs"), 503, 200},
		{"well again", nil, nil, 200, 200},
	} {
		broker.Set(c.broker)
		beat.Set(c.beat)
		for path, want := range map[string]int{"/livez": c.live, "/readyz": c.ready} {
			code, kind, body := get(t, address, path)
			a := decode[health.Answer](t, body)
			if code != want || a.OK != (want == 200) || kind != "application/json" {
				t.Errorf("%s: %s: %d %s %s", c.name, path, code, kind, body)
			}
			if failed := (health.Ask(t.Context(), address, path) != nil); failed != (want != 200) {
				t.Errorf("%s: Ask %s: failed %t", c.name, path, failed)
			}
		}
	}
}

func TestWhyNotAndSinceWhen(t *testing.T) {
	t.Parallel()
	b := health.New(health.Config{})
	var flag health.Flag
	b.Ready("broker", flag.Check)
	address, _ := serve(t, b)
	ask := func() health.Result {
		_, _, body := get(t, address, "/readyz")
		return decode[health.Answer](t, body).Checks["broker"]
	}
	well := ask()
	if again := ask(); !well.OK || again != well || time.Since(well.Since) > time.Minute {
		t.Errorf("%+v then %+v", well, again)
	}
	before := time.Now().UTC().Truncate(time.Millisecond)
	flag.Set(errors.New("dial nats://u:hunter2@x/hunter2@broker:4222:\n connection refused"))
	failed := ask()
	if failed.OK || failed.Since.Before(before) || failed.Why != "dial nats://redacted@broker:4222: connection refused" {
		t.Errorf("%+v", failed)
	}
	flag.Set(errors.New(strings.Repeat("ä", 1000)))
	if other := ask(); other.Since != failed.Since || len(other.Why) > 600 {
		t.Errorf("another reason, the same failure: %+v", other)
	}
	b.Ready("broker", func() error { return errors.New("replaced") })
	if other := ask(); other.Since != failed.Since || other.Why != "replaced" {
		t.Errorf("another check of the same name: %+v", other)
	}
	err := health.Ask(t.Context(), address, "/readyz")
	if err == nil || !strings.HasPrefix(err.Error(), "broker: replaced (for ") {
		t.Errorf("Ask: %v", err)
	}
}

func TestVerboseIsPlainText(t *testing.T) {
	t.Parallel()
	b := health.New(health.Config{})
	b.Ready("broker", func() error { return errors.New("away") })
	address, _ := serve(t, b)
	code, kind, body := get(t, address, "/readyz?verbose")
	if want := "[-]broker failed: away\n[+]shutdown ok\nreadyz check failed\n"; code != 503 || body != want || !strings.HasPrefix(kind, "text/plain") {
		t.Errorf("%d %s\n%s", code, kind, body)
	}
	if code, _, body := get(t, address, "/livez?verbose"); code != 200 || body != "livez check passed\n" {
		t.Errorf("%d %s", code, body)
	}
}

func TestDraining(t *testing.T) {
	t.Parallel()
	b := health.New(health.Config{})
	address, stop := serve(t, b)
	b.Drain()
	if code, _, body := get(t, address, "/readyz"); code != 503 || decode[health.Answer](t, body).Checks["shutdown"].OK {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _, body := get(t, address, "/livez"); code != 200 {
		t.Errorf("livez: %d %s", code, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := health.Ask(t.Context(), address, "/livez"); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("it answers after its end: %v", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	b := health.New(health.Config{Service: "infer", Instance: "a-1"})
	b.Live("beat", func() error { return nil })
	b.Ready("broker", func() error { return errors.New("away") })
	b.Fact("lanes", func() any { return []string{"person"} })
	b.Fact("url", func() any { return "nats://u:hunter2@broker:4222" })
	b.Fact("large", func() any { return strings.Repeat("x", 5000) })
	b.Fact("odd", func() any { return func() {} })
	for i := range 100 {
		b.Fact("more"+strconv.Itoa(i), func() any { return i })
	}
	address, _ := serve(t, b)
	code, _, body := get(t, address, "/status")
	s := decode[struct {
		Service, Instance string
		Build             health.Build
		Started           time.Time
		Live, Ready       health.Answer
		Facts             map[string]any
	}](t, body)
	if code != 200 || s.Service != "infer" || s.Instance != "a-1" || s.Build.Go == "" || time.Since(s.Started) > time.Minute ||
		!s.Live.OK || s.Ready.OK || s.Ready.Checks["broker"].Why != "away" {
		t.Errorf("%d %s", code, body)
	}
	if len(s.Facts) != 32 || s.Facts["large"] != "left out: 5002 bytes" || s.Facts["url"] != "nats://redacted@broker:4222" ||
		!strings.HasPrefix(s.Facts["odd"].(string), "unreadable: ") || len(s.Facts["lanes"].([]any)) != 1 {
		t.Errorf("%v", s.Facts)
	}
}

func TestOtherRequests(t *testing.T) {
	t.Parallel()
	b := health.New(health.Config{})
	address, _ := serve(t, b)
	if code, _, _ := get(t, address, "/metrics"); code != 404 {
		t.Errorf("/metrics: %d", code)
	}
	b.Handle("GET /metrics", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }))
	if code, _, body := get(t, address, "/metrics"); code != 200 || body != "up 1\n" {
		t.Errorf("/metrics: %d %s", code, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/readyz", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", resp.Status)
	}
}

func TestAnAddressInUseIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	l, err := health.Listen(t.Context(), ":0") // no host is loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		t.Errorf("listens at %s", l.Addr())
	}
	if _, err := health.Listen(t.Context(), l.Addr().String()); err == nil || !strings.HasPrefix(err.Error(), l.Addr().String()+" is in use by another process") {
		t.Errorf("%v", err)
	}
	if _, err := health.Listen(t.Context(), "8080"); err == nil {
		t.Error("listens at 8080")
	}
}

// Who opens connections and says nothing keeps nobody from asking for longer than it takes to give up on him.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	const attempts = 4 // a busy machine may not get to those that it refuses within a second
	for range attempts {
		refused := 0
		t.Run("attempt", func(t *testing.T) { refused = idleConnections(t) })
		if refused > 0 || t.Failed() {
			return
		}
	}
	t.Errorf("in each of %d attempts there were 100 connections, and none was refused", attempts)
}

// idleConnections reports how many were refused.
func idleConnections(t *testing.T) (refused int) {
	t.Helper()
	b := health.New(health.Config{})
	address, _ := serve(t, b)
	conns := make([]net.Conn, 100)
	for i := range conns {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns[i] = c
	}
	soon := time.Now().Add(time.Second) // less than others get
	for _, c := range slices.Backward(conns) {
		if err := c.SetDeadline(soon); err != nil {
			t.Fatal(err)
		}
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			refused++
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for health.Ask(ctx, address, "/livez") != nil {
		if ctx.Err() != nil {
			t.Fatal("no answer any more")
		}
	}
	return refused
}

func TestAsk(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/livez" {
			_, _ = io.WriteString(w, "ok")
			return
		}
		http.Redirect(w, r, "http://example.org/", http.StatusFound)
	}))
	defer other.Close()
	address := strings.TrimPrefix(other.URL, "http://")
	for _, path := range []string{"/livez", "/readyz"} {
		if err := health.Ask(t.Context(), address, path); err == nil || !strings.HasPrefix(err.Error(), "somebody else answers at "+address) {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := health.Ask(ctx, address, "/livez"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := health.Ask(t.Context(), "8080", "/livez"); err == nil {
		t.Error("no port")
	}
}

// A process that listens everywhere is asked on loopback.
func TestAskOnLoopback(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		l, err := health.Listen(t.Context(), listen)
		if err != nil && listen == "[::]:0" {
			continue // no IPv6 here
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- health.New(health.Config{}).Serve(ctx, l) }()
		host, _, _ := net.SplitHostPort(listen)
		port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		hosts := []string{host, ""}
		if host == "::" {
			hosts = hosts[:1]
		}
		for _, h := range hosts {
			if err := health.Ask(t.Context(), net.JoinHostPort(h, port), "/readyz"); err != nil {
				t.Errorf("%s: %v", h, err)
			}
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// lines are what a log has been told.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(bytes.TrimSpace(p))
	return len(p), nil
}

func TestTheLogIsToldOfChanges(t *testing.T) {
	t.Parallel()
	log := make(lines, 16)
	b := health.New(health.Config{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))})
	var flag health.Flag
	flag.Set(errors.New("away"))
	b.Ready("broker", flag.Check)
	_, _ = serve(t, b)
	for _, c := range []struct {
		do   func()
		want []string
	}{
		{func() { flag.Set(nil) }, []string{"INFO", "msg=ready"}},
		{func() { flag.Set(errors.New("away")) }, []string{"WARN", `msg="not ready"`, "broker: away"}},
		{func() { flag.Set(nil) }, []string{"INFO", "msg=ready"}},
		{b.Drain, []string{"INFO", `msg="not ready"`, "was told to stop"}},
	} {
		c.do()
		select {
		case line := <-log:
			for _, want := range c.want {
				if !strings.Contains(line, want) {
					t.Errorf("%s: no %s", line, want)
				}
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing is told within 10 s, want ", c.want)
		}
	}
}
