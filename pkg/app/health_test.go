package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/health"
)

// told is what a process writes, line by line, for a test that waits for one of them.
type told chan string

func (l told) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func (l told) await(t *testing.T, what string) {
	t.Helper()
	var all []string
	late := time.After(30 * time.Second)
	for {
		select {
		case line := <-l:
			if all = append(all, line); strings.Contains(line, what) {
				return
			}
		case <-late:
			t.Fatalf("%s: not told within 30 s:\n%s", what, strings.Join(all, ""))
		}
	}
}

type asked struct {
	t       *testing.T
	address string
}

func (a asked) get(path string) (int, []byte) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, "http://"+a.address+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, body
}

// ready asserts which checks of /readyz fail, and that /livez does not.
func (a asked) ready(failing ...string) {
	a.t.Helper()
	code, body := a.get("/readyz")
	var got health.Answer
	if err := json.Unmarshal(body, &got); err != nil {
		a.t.Fatal(err, string(body))
	}
	for _, name := range failing {
		if r, known := got.Checks[name]; !known || r.OK || r.Why == "" {
			a.t.Errorf("%s does not fail: %s", name, body)
		}
	}
	if (code == http.StatusOK) != (len(failing) == 0) || got.OK != (len(failing) == 0) {
		a.t.Errorf("failing %v: %d %s", failing, code, body)
	}
	if code, body := a.get("/livez"); code != http.StatusOK {
		a.t.Errorf("not live: %d %s", code, body)
	}
}

// A process says that it waits for its broker, then for what its service waits for, that it is ready, that the broker is
// gone, that it is ready again, and that it is about to end. It is live all the time.
func TestReadiness(t *testing.T) {
	t.Parallel()
	port, where := freePort(t), asked{t, "127.0.0.1:" + strconv.Itoa(freePort(t))}
	environ := []string{"SIGHTLINE_NATS_URL=nats://u:hunter2@127.0.0.1:" + strconv.Itoa(port), "SIGHTLINE_HTTP=" + where.address}
	running, serves, ending, finish := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := Service{
		Name: "infer", Declares: true,
		Run: func(ctx context.Context, p *Process) error {
			close(running)
			<-serves
			p.Member.Describe(func(w *fleet.Worker) { w.Lanes = []fleet.Lane{{Model: "person"}} })
			<-ctx.Done()
			close(ending)
			<-finish
			return nil
		},
		Ready: func(w fleet.Worker) error {
			if len(w.Lanes) == 0 {
				return errors.New("no model serves yet")
			}
			return nil
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log := make(told, 1000)
	ended := make(chan error, 1)
	go func() { ended <- s.main(ctx, []string{"--instance", "a-1"}, environ, log, nil) }()

	log.await(t, "waiting for the broker")
	where.ready("broker", "declared", "member", "service")
	data := t.TempDir()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", port, data)
	if err != nil {
		t.Fatal(err)
	}
	<-running
	where.ready("service")
	var out output
	if code := s.health(t.Context(), nil, environ, &out); code != 1 || !strings.HasPrefix(out.String(), "infer is not ready: service: no model serves yet (for ") {
		t.Errorf("%d %s", code, out.String())
	}

	close(serves)
	log.await(t, "msg=ready")
	where.ready()
	out = output{}
	if code := s.health(t.Context(), nil, environ, &out); code != 0 || out.String() != "infer is ready\n" {
		t.Errorf("%d %s", code, out.String())
	}
	code, status := where.get("/status")
	for _, want := range []string{`"service":"infer"`, `"instance":"a-1"`, `"model":"person"`, `"holds":0`, "redacted@127.0.0.1"} {
		if code != http.StatusOK || !strings.Contains(string(status), want) {
			t.Errorf("no %s: %d %s", want, code, status)
		}
	}
	if strings.Contains(string(status), "hunter2") {
		t.Errorf("the password: %s", status)
	}

	server.Stop()
	log.await(t, `msg="not ready"`)
	where.ready("broker")
	if server, err = broker.StartEmbedded(t.Context(), "127.0.0.1", port, data); err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	log.await(t, "msg=ready")
	where.ready()

	stop()
	<-ending
	where.ready("shutdown")
	out = output{}
	if code := s.health(t.Context(), []string{"--live"}, environ, &out); code != 0 || out.String() != "infer is live\n" {
		t.Errorf("%d %s", code, out.String())
	}
	close(finish)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	out = output{}
	if code := s.health(t.Context(), []string{"--live"}, environ, &out); code != 1 || !strings.HasPrefix(out.String(), "infer is not live: no answer: ") {
		t.Errorf("%d %s", code, out.String())
	}
}

func TestAnAddressInUseStartsNothing(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := Service{Name: "infer", Run: func(context.Context, *Process) error { t.Error("it runs"); return nil }}
	err = s.main(t.Context(), nil, []string{"SIGHTLINE_HTTP=" + l.Addr().String()}, &output{}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "SIGHTLINE_HTTP: "+l.Addr().String()+" is in use by another process") {
		t.Error(err)
	}
}

// Docker keeps exit code 2 for itself.
func TestHealthThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	s := Service{Name: "infer"}
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		code    int
		want    string
	}{
		{"off", nil, nil, 1, "infer is not ready: SIGHTLINE_HTTP is off"},
		{"bad settings", nil, []string{"SIGHTLINE_HTTP=8080"}, 1, "SIGHTLINE_HTTP"},
		{"argument", []string{"now"}, nil, 1, `unknown argument "now"`},
		{"flag", []string{"--now"}, nil, 1, "not defined: -now"},
		{"help", []string{"--help"}, nil, 0, "-live"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out output
			if code := s.health(t.Context(), c.args, c.environ, &out); code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("%d %s", code, out.String())
			}
		})
	}
}

// A process that does not even try to beat hangs, unless it has no broker to beat to.
func TestPulse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		beats bool
		away  error
		hangs bool
	}{
		{"beats", true, nil, false},
		{"hangs", false, nil, true},
		{"broker away", false, errNoBroker, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var v vitals
				v.broker.Set(c.away)
				began := time.Now()
				stop := alongside(t.Context(), func(ctx context.Context) {
					v.pulse(ctx, pulseEvery, func() time.Time {
						if c.beats {
							return time.Now()
						}
						return began
					})
				})
				defer stop()
				time.Sleep((hungAfter - 1) * pulseEvery) //nolint:forbidigo // in a bubble
				synctest.Wait()
				if err := v.beating.Check(); err != nil {
					t.Errorf("too early: %v", err)
				}
				time.Sleep(10 * pulseEvery) //nolint:forbidigo // in a bubble
				synctest.Wait()
				if err := v.beating.Check(); (err != nil) != c.hangs {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestACrashIsNotLive(t *testing.T) {
	t.Parallel()
	crashed := make(chan error, 1)
	p := Process{vitals: new(vitals), crashed: crashed}
	p.Crash(errors.New("hangs"))
	if err := p.vitals.crashed.Check(); err == nil || (<-crashed).Error() != "hangs" {
		t.Error(err)
	}
}
