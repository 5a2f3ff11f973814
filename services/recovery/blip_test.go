package recovery

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/sightline-dev/sightline/pkg/fleet"
)

// wire is a network between a client and the broker.
type wire struct {
	l    net.Listener
	mu   sync.Mutex
	ends []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{l: l}
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
			if err != nil {
				_ = a.Close()
				continue
			}
			w.mu.Lock()
			w.ends = append(w.ends, a, b)
			w.mu.Unlock()
			for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
				carrying.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		carrying.Wait()
	})
	return w
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.ends {
		_ = c.Close()
	}
	w.ends = nil
}

// A worker whose connection breaks is back before it is taken for dead.
func TestABrokenConnectionIsNoDeath(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.recover("r0")
	r.leads()
	broker := r.urls
	w := newWire(t, broker)
	r.urls = "nats://" + w.l.Addr().String()
	a := r.start("preprocess", "a", idle)
	r.urls = broker
	for range 5 {
		before := a.entry()
		w.cut()
		a.tellDisconnect(before, "Read Error")
		r.eventually(func() error {
			now := a.entry()
			if now.Connection == before.Connection && now.State == fleet.Alive {
				return errAt("still over", now.Connection)
			}
			return nil
		})
		if now := a.entry(); now.Incarnation != before.Incarnation || now.State != fleet.Alive {
			t.Fatalf("taken for dead: %s %s, epitaph %+v", now.Incarnation, now.State, now.Epitaph)
		}
	}
}
