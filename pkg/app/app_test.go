package app

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/streams"
)

// output is what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
}

// A process starts before its broker, joins the fleet when that is there, finishes its work when it is told to stop, and
// is not in the fleet any more when it has ended.
func TestALife(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	var finished bool
	running := make(chan jetstream.JetStream, 1)
	s := Service{Name: "infer", Does: "tests", Declares: true, Run: func(ctx context.Context, p *Process) error {
		running <- p.JS
		<-ctx.Done()
		view, err := fleet.Follow(context.WithoutCancel(ctx), p.JS, p.Member.Key(), p.Log)
		if err != nil {
			return err
		}
		_, finished = view.All()["infer.a-1"] // still a member while it finishes
		return nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log output
	ended := make(chan error, 1)
	go func() {
		ended <- s.main(ctx, []string{"--instance", "a-1"}, []string{"SIGHTLINE_NATS_URL=nats://u:hunter2@127.0.0.1:" + strconv.Itoa(port)}, &log, nil)
	}()
	server, err := broker.StartEmbedded(t.Context(), "127.0.0.1", port, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	select {
	case <-running:
	case err := <-ended:
		t.Fatal(err, log.String())
	case <-time.After(20 * time.Second):
		t.Fatal("not running within 20 s: " + log.String())
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if !finished {
		t.Error("it left the fleet before it had finished")
	}
	nc, err := broker.Connect(broker.Config{URL: server.URL(), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := broker.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), streams.WorkersBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(t.Context(), "infer.a-1"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("it did not leave: %v", err)
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log has the password:\n%s", log.String())
	}
}

func TestAProcessThatIsToldToStopBeforeThereIsABroker(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	s := Service{Name: "infer", Run: func(context.Context, *Process) error { t.Error("it runs"); return nil }}
	if err := s.main(ctx, nil, []string{"SIGHTLINE_NATS_URL=nats://127.0.0.1:" + strconv.Itoa(freePort(t))}, &output{}, nil); err != nil {
		t.Error(err)
	}
}

func TestBadSettingsStartNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		want    string
	}{
		{"environment", nil, []string{"SIGHTLINE_REPLICAS=2", "SIGHTLINE_WORKERS=-1"}, "SIGHTLINE_WORKERS"},
		{"flag", []string{"--nats", "http://u:hunter2@x"}, nil, "--nats"},
		{"argument", []string{"start"}, nil, "start"},
		{"instance", []string{"--instance", "a b"}, nil, "instance"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := Service{Name: "infer", Run: func(context.Context, *Process) error { t.Error("it runs"); return nil }}
			err := s.main(t.Context(), c.args, c.environ, &output{}, nil)
			if _, usage := errors.AsType[*usageError](err); !usage || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v", err)
			}
		})
	}
	var help output
	s := Service{Name: "infer", Does: "answers"}
	if err := s.main(t.Context(), []string{"--help"}, nil, &help, nil); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "infer answers.") {
		t.Errorf("%v %s", err, help.String())
	}
}
