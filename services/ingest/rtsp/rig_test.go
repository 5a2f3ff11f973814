package rtsp_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/camera/cameratest"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/ffmpeg"
	"github.com/sightline-dev/sightline/services/ingest/rtsp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event; it is long because the machine may be busy.
const patience = 20 * time.Second

// secret is the password of every camera with one; it needs percent-encoding.
const secret = "p@ss/w%rd"

// footage makes a clip of the usual size and rate.
func footage(tb testing.TB, codec string) *camera.Footage {
	tb.Helper()
	return cameratest.Footage(tb, cameratest.Clip{Codec: codec})
}

// brisk is a clip of key frames only, 50 a second: whoever joins sees a picture at once.
func brisk(tb testing.TB) *camera.Footage {
	tb.Helper()
	return cameratest.Footage(tb, cameratest.Clip{Codec: "h264", GOP: 1, FPS: 50, Seconds: 1})
}

// prints decodes a clip without any loss and returns fingerprints of its pictures.
func prints(tb testing.TB, clip *camera.Footage) map[[32]byte]bool {
	tb.Helper()
	d, err := ffmpeg.New(ingest.Codec(clip.Codec))
	if err != nil {
		tb.Fatal(err)
	}
	defer d.Close()
	all := make(map[[32]byte]bool)
	for p := range clip.Pictures() {
		pic, err := d.Decode(ingest.AccessUnit{Codec: ingest.Codec(clip.Codec), Data: p.Data, PTS: p.PTS})
		if err != nil || pic == nil {
			tb.Fatal(err)
		}
		all[fingerprint(tb, pic)] = true
	}
	return all
}

func fingerprint(tb testing.TB, pic ingest.Picture) [32]byte {
	tb.Helper()
	w, h := pic.Size()
	rgb := make([]byte, w*h*3)
	if err := pic.RGB(rgb, w, h); err != nil {
		tb.Error(err)
	}
	return sha256.Sum256(rgb)
}

// newSource makes a source with limits that suit a test.
func newSource(tb testing.TB, cfg rtsp.Config) *rtsp.Source {
	tb.Helper()
	src, err := rtsp.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return src
}

// play runs src until enough says so, or it ends by itself, or patience does; it returns the units and src's error.
func play(tb testing.TB, src *rtsp.Source, enough func([]ingest.AccessUnit) bool) ([]ingest.AccessUnit, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var units []ingest.AccessUnit
	err := src.Run(ctx, func(au ingest.AccessUnit) {
		units = append(units, au)
		if enough(units) {
			cancel()
		}
	})
	if strings.Contains(fmt.Sprint(err), secret) {
		tb.Errorf("the password is in %q", err)
	}
	return units, err
}

func atLeast(n int) func([]ingest.AccessUnit) bool {
	return func(units []ingest.AccessUnit) bool { return len(units) >= n }
}

// viewer is a session on a camera, and what came of it.
type viewer struct {
	tb      testing.TB
	session *ingest.Session

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	states   []ingest.State
	pictures int
	width    int
	widths   map[int]int
	gap      time.Duration // longest between two pictures
	last     time.Time
	stop     func() // ends the session and waits for it
}

// watch runs a session until the test ends.
func watch(tb testing.TB, cfg rtsp.Config, change func(*ingest.SessionConfig)) *viewer {
	tb.Helper()
	v := &viewer{tb: tb, changed: make(chan struct{}), widths: make(map[int]int)}
	sc := ingest.SessionConfig{
		Source:     newSource(tb, cfg),
		NewDecoder: func(c ingest.Codec) (ingest.Decoder, error) { return ffmpeg.New(c) },
		OnPicture:  v.onPicture,
		OnState:    v.onState,
		Redactor:   ingest.NewRedactor(cfg.URL),
		BackoffMin: 50 * time.Millisecond,
		BackoffMax: 200 * time.Millisecond,
	}
	if change != nil {
		change(&sc)
	}
	var err error
	if v.session, err = ingest.NewSession(sc); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- v.session.Run(ctx) }()
	v.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("session: %v", err)
		}
	})
	tb.Cleanup(v.stop)
	return v
}

func (v *viewer) onPicture(p ingest.Picture) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pictures++
	v.width, _ = p.Size()
	v.widths[v.width]++
	now := time.Now()
	if !v.last.IsZero() {
		v.gap = max(v.gap, now.Sub(v.last))
	}
	v.last = now
	v.signal()
}

func (v *viewer) onState(s ingest.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if strings.Contains(s.Detail, secret) {
		v.tb.Errorf("the password is in %q", s.Detail)
	}
	v.states = append(v.states, s)
	v.signal()
}

// signal wakes await. v.mu is held.
func (v *viewer) signal() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// await waits until ok, which is called with v.mu held.
func (v *viewer) await(what string, ok func() bool) {
	v.tb.Helper()
	limit := time.After(patience)
	for {
		v.mu.Lock()
		done, changed := ok(), v.changed
		states := fmt.Sprint(v.states)
		v.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond): // counters change without a signal
		case <-limit:
			v.tb.Fatalf("no %s in %s; states are %s, stats %+v", what, patience, states, v.session.Stats())
		}
	}
}

// awaitPictures waits for n more pictures.
func (v *viewer) awaitPictures(n int) {
	v.tb.Helper()
	v.mu.Lock()
	want := v.pictures + n
	v.mu.Unlock()
	v.await("pictures", func() bool { return v.pictures >= want })
}

// awaitState waits until the last state is that.
func (v *viewer) awaitState(phase ingest.Phase, cause ingest.Cause) ingest.State {
	v.tb.Helper()
	var last ingest.State
	v.await(string(phase)+" "+string(cause), func() bool {
		if len(v.states) > 0 {
			last = v.states[len(v.states)-1]
		}
		return last.Phase == phase && last.Cause == cause
	})
	return last
}
