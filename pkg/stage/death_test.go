package stage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// doubtful is a process that may have been declared dead, from doubt until sure is closed.
type doubtful struct {
	mu   sync.Mutex
	sure chan struct{}
	h    fleet.Holder
	held chan struct{} // closes when h is there
}

func newDoubtful() *doubtful {
	d := &doubtful{sure: make(chan struct{}), held: make(chan struct{})}
	close(d.sure)
	return d
}

func (d *doubtful) doubt() (sure chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sure = make(chan struct{})
	return d.sure
}

func (d *doubtful) Hold(h fleet.Holder) func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.h = h
	close(d.held)
	return func() {}
}

func (d *doubtful) Await(ctx context.Context) error {
	d.mu.Lock()
	sure := d.sure
	d.mu.Unlock()
	select {
	case <-sure:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *doubtful) holder() fleet.Holder {
	<-d.held
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.h
}

// A process that was declared dead has no effects for what it held; it goes on with what comes.
func TestWhatWasTakenAwayHasNoEffects(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := newDoubtful()
	cfg := r.config()
	cfg.Member = d
	cfg.Workers = 2
	g := newGate()
	m := r.start(cfg, stage.Each(g.handle))
	r.put("frames.every.cam", "a", "b")
	got := []string{<-g.at, <-g.at}
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Fatal(got)
	}
	claims := d.holder().Claims()
	if len(claims) != 1 || claims[0].Stream != streams.Frames || claims[0].Consumer != "work" || len(claims[0].Held) != 2 {
		t.Fatalf("%+v", claims)
	}
	sure := d.doubt()
	close(g.open) // both are answered, and wait to be allowed to say so
	d.holder().Abandon()
	close(sure)
	m.wait(1, "returned a")
	m.wait(1, "returned b")
	if claims := d.holder().Claims(); len(claims) != 0 {
		t.Errorf("still claims %+v", claims)
	}
	r.put("frames.every.cam", "c")
	m.wait(1, "done c")
	if got := r.data(streams.Predictions); !slices.Equal(got, []string{"c"}) {
		t.Errorf("stored %v: the successor says the rest", got)
	}
	if s := m.Stats(); s.Abandoned != 2 || s.Done != 1 {
		t.Errorf("%+v", s)
	}
}

// What it took would be in no claim that anybody believes.
func TestWhoMayBeDeadTakesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := newDoubtful()
	sure := d.doubt()
	cfg := r.config()
	cfg.Member = d
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) { return answer(m), nil }))
	r.put("frames.every.cam", "a")
	<-time.After(300 * time.Millisecond) // an absence has no event
	if s := m.Stats(); s.Taken != 0 {
		t.Errorf("%+v", s)
	}
	close(sure)
	m.wait(1, "done a")
}

// What is handed back for a while is nobody's; the fleet knows, so that nobody hands it over early.
func TestWhatRestsIsClaimed(t *testing.T) {
	t.Parallel()
	const attempts = 5 // a busy machine may look when the rest is over
	for range attempts {
		rested := false
		t.Run("attempt", func(t *testing.T) { rested = restIsClaimed(t) })
		if rested || t.Failed() {
			return
		}
	}
	t.Errorf("in each of %d attempts the rest was over before it could be seen", attempts)
}

// restIsClaimed reports whether it looked before the rest was over.
func restIsClaimed(t *testing.T) bool {
	t.Helper()
	const rest = time.Second
	r := newRig(t)
	cfg := r.config()
	d := newDoubtful()
	cfg.Member = d
	handled := make(chan time.Time, 1)
	m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		if m.Attempt == 1 {
			handled <- time.Now()
			return nil, stage.RetryIn(rest, errors.New("not yet"))
		}
		return answer(m), nil
	}))
	r.put("frames.every.cam", "a")
	m.wait(1, "returned a")
	claims := d.holder().Claims()
	if time.Since(<-handled) >= rest {
		return false
	}
	if len(claims) != 1 || len(claims[0].Held) != 0 || !slices.Equal(claims[0].Resting, []fleet.Delivery{{1, 1}}) {
		t.Errorf("%+v", claims)
	}
	m.wait(1, "done a")
	r.eventually(func() error {
		if claims := d.holder().Claims(); len(claims) != 0 {
			return fmt.Errorf("%+v", claims)
		}
		return nil
	})
	return true
}

// While an answer cannot be stored the next live frames are looked at, so that whoever listens sees fresh answers; those
// of every_frame cameras wait.
func TestLiveMessagesDoNotWaitForAnElection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stream, subject string
		within          bool
	}{
		{streams.FramesLive, "frames.live.cam%d", true},
		{streams.Frames, "frames.every.cam%d", false},
	} {
		t.Run(c.stream, func(t *testing.T) {
			t.Parallel()
			const n = 12
			r := newRig(t)
			cfg := r.config()
			cfg.Sources = []streams.Binder{r.bind(r.js, c.stream, 10*time.Second)}
			cfg.MaxInFlight = 2
			elected := make(chan struct{})
			said := make(chan string, 10*n)
			cfg.Publisher = publisher(func(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
				said <- string(msg.Data)
				select {
				case <-elected:
					return r.js.PublishMsg(ctx, msg)
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})
			m := r.start(cfg, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) { return answer(m), nil }))
			for i := range n {
				r.put(fmt.Sprintf(c.subject, i), fmt.Sprintf("f%d", i))
			}
			for range 2 {
				<-said
			}
			if c.within {
				for range n - 2 {
					<-said
				}
			} else {
				select {
				case f := <-said:
					t.Errorf("%s passed those that wait", f)
				case <-time.After(time.Second): // an absence has no event
				}
			}
			close(elected)
			for i := range n {
				m.wait(1, fmt.Sprintf("done f%d", i))
			}
		})
	}
}

// A worker that was cut off while its answer could not be stored says nothing when it is back: somebody else has answered,
// perhaps so long ago that the repeat would not be known as one.
func TestWhatWasTakenAwayMeanwhileIsNotStored(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := newDoubtful()
	cfg := r.config()
	cfg.Member = d
	cut, back := make(chan struct{}, 100), make(chan struct{})
	cfg.Publisher = publisher(func(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
		select {
		case <-back:
			return r.js.PublishMsg(ctx, msg)
		default:
			cut <- struct{}{}
			return nil, nats.ErrTimeout
		}
	})
	m := r.start(cfg, stage.Each(answerAll))
	r.put("frames.every.cam", "a")
	<-cut
	sure := d.doubt()
	close(back)
	d.holder().Abandon()
	close(sure)
	m.wait(1, "returned a")
	r.put("frames.every.cam", "b")
	m.wait(1, "done b")
	if err := m.stop(); err != nil { // nothing is under way any more
		t.Error(err)
	}
	if got := r.data(streams.Predictions); !slices.Equal(got, []string{"b"}) {
		t.Errorf("stored %v", got)
	}
}
