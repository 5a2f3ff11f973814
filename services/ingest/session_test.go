package ingest_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/decodertest"
)

// script is a source that plays a function for each attempt; the last one plays for all that follow.
type script struct {
	attempts []func(ctx context.Context, sink func(ingest.AccessUnit)) error
	starts   []time.Time
	running  atomic.Int32
}

func (s *script) Run(ctx context.Context, sink func(ingest.AccessUnit)) error {
	if s.running.Add(1) != 1 {
		panic("two connections at once")
	}
	defer s.running.Add(-1)
	s.starts = append(s.starts, time.Now())
	return s.attempts[min(len(s.starts), len(s.attempts))-1](ctx, sink)
}

type attempt = func(context.Context, func(ingest.AccessUnit)) error

// frames sends units from to to (exclusive) at 25 per second, a key frame every ten, then does what then says.
func frames(from, to uint32, then attempt) attempt {
	return func(ctx context.Context, sink func(ingest.AccessUnit)) error {
		for n := from; n < to; n++ {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			sink(unit(n))
			time.Sleep(40 * time.Millisecond) //nolint:forbidigo // in a bubble
		}
		return then(ctx, sink)
	}
}

func unit(n uint32) ingest.AccessUnit {
	return decodertest.FakeUnit(ingest.H264, n, n%10 == 0, 320, 240)
}

func hang(ctx context.Context, _ func(ingest.AccessUnit)) error {
	<-ctx.Done()
	return ctx.Err()
}

func failWith(cause ingest.Cause, text string) attempt {
	return func(context.Context, func(ingest.AccessUnit)) error { return ingest.WithCause(cause, errors.New(text)) }
}

// rig runs a session in a bubble and notes what it says.
type rig struct {
	session  *ingest.Session
	decoder  *decodertest.Fake // the newest
	decoders int
	states   []ingest.State
	pictures []uint32 // numbers of the units
	run      func(time.Duration)
}

func start(t *testing.T, src ingest.Source, change func(*ingest.SessionConfig, *rig)) *rig {
	t.Helper()
	r := &rig{}
	cfg := ingest.SessionConfig{
		Source: src,
		NewDecoder: func(c ingest.Codec) (ingest.Decoder, error) {
			d, err := decodertest.NewFake(c)
			r.decoder = d
			r.decoders++
			return d, err
		},
		OnPicture: func(p ingest.Picture) {
			r.pictures = append(r.pictures, uint32(p.PTS()/(40*time.Millisecond)))
		},
		OnState: func(s ingest.State) { r.states = append(r.states, s) },
	}
	if change != nil {
		change(&cfg, r)
	}
	var err error
	if r.session, err = ingest.NewSession(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.session.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	r.run = func(d time.Duration) {
		time.Sleep(d) //nolint:forbidigo // in a bubble
		synctest.Wait()
	}
	return r
}

func (r *rig) wantStates(t *testing.T, want ...string) {
	t.Helper()
	got := make([]string, 0, len(r.states))
	for _, s := range r.states {
		text := string(s.Phase)
		if s.Cause != "" {
			text += " " + string(s.Cause)
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		t.Errorf("states are %q, want %q", got, want)
	}
}

func numbers(from, to uint32) []uint32 {
	var all []uint32
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

func (r *rig) wantPictures(t *testing.T, want ...[]uint32) {
	t.Helper()
	if all := slices.Concat(want...); !slices.Equal(r.pictures, all) {
		t.Errorf("pictures are %v, want %v", r.pictures, all)
	}
}

func TestSessionStartsAtAKeyFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &script{attempts: []attempt{frames(4, 20, hang)}}, nil)
		r.run(time.Second)
		r.wantPictures(t, numbers(10, 20))
		r.wantStates(t, "connecting", "live")
		if st := r.session.Stats(); st.Skipped != 6 || st.Resyncs != 0 || st.Pictures != 10 || st.AccessUnits != 16 {
			t.Errorf("stats are %+v", st)
		}
	})
}

func TestSessionNoticesAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &script{attempts: []attempt{frames(0, 25, hang), frames(0, 1000, hang)}}
		began := time.Now()
		r := start(t, src, nil)
		r.run(6 * time.Second)
		r.wantStates(t, "connecting", "live", "down stalled", "live")
		// The last unit came at 0.96 s, so 2 s of silence end at 2.96 s.
		if got := r.states[2].At.Sub(began); got != 2960*time.Millisecond {
			t.Errorf("seen after %s, want 2.96s", got)
		}
		if d := src.starts[1].Sub(r.states[2].At); d < 125*time.Millisecond || d > 250*time.Millisecond {
			t.Errorf("came back after %s, want 125 to 250 ms", d)
		}
		if st := r.session.Stats(); st.Reconnects[ingest.CauseStalled] != 1 {
			t.Errorf("reconnects are %v", st.Reconnects)
		}
		if r.decoders != 2 {
			t.Errorf("%d decoders, want one for each connection", r.decoders)
		}
	})
}

func TestSessionNoticesThatNoMediaCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &script{attempts: []attempt{hang}}, nil)
		r.run(11 * time.Second)
		r.wantStates(t, "connecting", "down timeout")
		if d := r.states[1].At.Sub(r.states[0].At); d != 10*time.Second {
			t.Errorf("seen after %s, want 10s", d)
		}
	})
}

func TestSessionBacksOffAndReportsACauseOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &script{attempts: []attempt{
			failWith(ingest.CauseRefused, "no"), failWith(ingest.CauseRefused, "no"), failWith(ingest.CauseRefused, "no"),
			failWith(ingest.CauseRefused, "no"), failWith(ingest.CauseRefused, "no"), failWith(ingest.CauseRefused, "no"),
			failWith(ingest.CauseNotFound, "404"), // like any other failure, it is tried again
		}}
		r := start(t, src, nil)
		r.run(time.Minute)
		r.wantStates(t, "connecting", "down refused", "down not_found")
		for i, limit := range []time.Duration{250e6, 500e6, 1e9, 2e9, 3e9, 3e9, 3e9, 3e9} {
			if d := src.starts[i+1].Sub(src.starts[i]); d < limit/2 || d > limit {
				t.Errorf("pause %d is %s, want %s to %s", i, d, limit/2, limit)
			}
		}
		if st := r.session.Stats(); st.Reconnects[ingest.CauseRefused] != 6 || st.Reconnects[ingest.CauseNotFound] < 15 {
			t.Errorf("reconnects are %v", st.Reconnects)
		}
	})
}

func TestSessionForgetsItsBackoffAfterAHealthyTime(t *testing.T) {
	for _, test := range []struct {
		name  string
		units uint32 // of 40 ms
		limit time.Duration
	}{
		{"12 s of pictures", 300, 250 * time.Millisecond},
		{"2 s of pictures", 50, 3 * time.Second}, // the longest pause
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				no := failWith(ingest.CauseRefused, "no")
				src := &script{attempts: []attempt{no, no, no, no, frames(0, test.units, failWith(ingest.CauseClosed, "gone")), hang}}
				start(t, src, nil).run(40 * time.Second)
				ended := src.starts[4].Add(time.Duration(test.units) * 40 * time.Millisecond)
				if d := src.starts[5].Sub(ended); d < test.limit/2 || d > test.limit {
					t.Errorf("came back after %s, want %s to %s", d, test.limit/2, test.limit)
				}
			})
		})
	}
}

func TestSessionEndsAtOnce(t *testing.T) {
	for _, test := range []struct {
		name string
		play attempt
	}{
		{"while connecting", hang},
		{"while playing", frames(0, 1e6, hang)},
		{"while waiting", failWith(ingest.CauseRefused, "no")},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := ingest.NewSession(ingest.SessionConfig{
					Source:     &script{attempts: []attempt{test.play}},
					NewDecoder: func(c ingest.Codec) (ingest.Decoder, error) { return decodertest.NewFake(c) },
					OnPicture:  func(ingest.Picture) {},
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				began := time.Now()
				if err := s.Run(ctx); err != nil {
					t.Error(err)
				}
				if d := time.Since(began); d > 5040*time.Millisecond { // the fake source looks every 40 ms
					t.Errorf("ended %s late", d-5*time.Second)
				}
			})
		})
	}
}

func TestSessionConfigIsChecked(t *testing.T) {
	_, err := ingest.NewSession(ingest.SessionConfig{BackoffMin: 9 * time.Second, StallTimeout: -1})
	const want = "session: Source, NewDecoder and OnPicture are required\n" +
		"BackoffMin is 9s, more than BackoffMax 3s\ntimes and sizes must not be negative"
	if err == nil || err.Error() != want || ingest.CauseOf(err) != ingest.CauseConfig {
		t.Errorf("error is %v, want %s", err, want)
	}
}
