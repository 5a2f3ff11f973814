package fleet

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/streams"
)

// keeper holds a message until it is told to let go.
type keeper struct{ abandoned chan struct{} }

func (k *keeper) Claims() []Claim {
	return []Claim{{Stream: streams.Frames, Consumer: "preprocess", Held: []Delivery{{1, 1}}}}
}
func (k *keeper) Abandon() { close(k.abandoned) }

func joined(t *testing.T, js jetstream.JetStream, log *slog.Logger) (*Member, *keeper, jetstream.KeyValue) {
	t.Helper()
	m := NewMember(js, Config{Service: "infer", Instance: "a", Declares: true, Log: log})
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := &keeper{make(chan struct{})}
	t.Cleanup(m.Hold(k))
	kv, err := js.KeyValue(t.Context(), streams.WorkersBucket)
	if err != nil {
		t.Fatal(err)
	}
	return m, k, kv
}

func (k *keeper) letGo() bool {
	select {
	case <-k.abandoned:
		return true
	default:
		return false
	}
}

// A process that wakes up after the tombstone has expired, too, finds no trace of what became of it.
func TestWhoWasAwayForLongLetsGo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		away time.Duration
		lost bool // the bucket, with everything in it
		want bool
	}{
		{"for a moment", time.Minute, false, false},
		{"for long", overdueFor + time.Second, false, true},
		{"for long, and so was the bucket", overdueFor + time.Second, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			js := brokertest.JetStream(t)
			m, k, kv := joined(t, js, nil)
			before := m.self.Incarnation
			if err := kv.Purge(t.Context(), m.Key()); err != nil {
				t.Fatal(err)
			}
			if c.lost {
				if err := js.DeleteKeyValue(t.Context(), streams.WorkersBucket); err != nil {
					t.Fatal(err)
				}
			}
			m.mu.Lock()
			m.last = time.Now().Add(-c.away)
			m.mu.Unlock()
			if err := m.beat(t.Context()); err != nil {
				t.Fatal(err)
			}
			if k.letGo() != c.want || (m.self.Incarnation != before) != c.want {
				t.Errorf("lets go: %v, another incarnation: %v", k.letGo(), m.self.Incarnation != before)
			}
		})
	}
}

// A process that was stopped while another one took its name holds nothing any more, and is another one when the name is
// free again.
func TestWhoseNameWasTakenLetsGo(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	var said lines
	m, k, kv := joined(t, js, slog.New(slog.NewTextHandler(&said, nil)))
	before := m.self.Incarnation
	other := m.self
	other.Incarnation = "another"
	data, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), m.Key(), data); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := m.beat(t.Context()); err == nil {
			t.Error("a beat under a name that another process has")
		}
	}
	if !k.letGo() {
		t.Error("still holds what its successor was given")
	}
	if n := said.count("another process has this name"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := kv.Purge(t.Context(), m.Key()); err != nil {
		t.Fatal(err)
	}
	if err := m.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.self.Incarnation == before {
		t.Error("the same as before")
	}
}

// Who cannot beat does nothing, and says so once.
func TestBeatsThatAreNotStoredAreToldOf(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	var said lines
	m, _, _ := joined(t, js, slog.New(slog.NewTextHandler(&said, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as good as a broker that refuses
	for i := range 4 {
		if m.beat(ctx) == nil {
			t.Fatal("stored")
		}
		if i == 1 {
			m.began = m.began.Add(-complainAfter)
		}
	}
	if n := said.count("not stored"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := m.beat(t.Context()); err != nil || said.count("stored again") != 1 {
		t.Error(err, "not told that it is over")
	}
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}
