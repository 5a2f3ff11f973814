package ingest

import (
	"testing"
	"time"
)

func TestSampler(t *testing.T) {
	ms, began := time.Millisecond, time.Now()
	for _, tt := range []struct {
		name string
		fps  float64
		pts  func(i int) time.Duration
		n    int
		want int
		// arrives is the interval of arrival where it is not that of the camera's clock.
		arrives time.Duration
	}{
		{"all", 0, func(i int) time.Duration { return time.Duration(i) * 40 * ms }, 250, 250, 0},
		{"25 to 10", 10, func(i int) time.Duration { return time.Duration(i) * 40 * ms }, 250, 100, 0},
		{"10 to 10", 10, func(i int) time.Duration { return time.Duration(i) * 100 * ms }, 100, 100, 0},
		{"10 to 10 with jitter", 10, func(i int) time.Duration { return time.Duration(i)*100*ms + time.Duration(i%3)*10*ms }, 100, 100, 0},
		{"5 to 10", 10, func(i int) time.Duration { return time.Duration(i) * 200 * ms }, 50, 50, 0},
		{"30 to 1", 1, func(i int) time.Duration { return time.Duration(i) * 33 * ms }, 300, 10, 0},
		{"clock starts again", 10, func(i int) time.Duration { return time.Duration(i%50) * 40 * ms }, 250, 100, 0},
		{"a long silence is not caught up", 10, func(i int) time.Duration {
			if i < 10 {
				return time.Duration(i) * 100 * ms
			}
			return time.Hour + time.Duration(i)*40*ms
		}, 35, 20, 0},
		{"the camera's clock stands still", 10, func(int) time.Duration { return 0 }, 250, 14, 40 * ms},
		{"it steps back a little", 10, func(i int) time.Duration { return time.Duration(i)*40*ms - time.Duration(i%3/2)*60*ms }, 250, 100, 40 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, got := newSampler(tt.fps), 0
			for i := range tt.n {
				at := tt.pts(i)
				if tt.arrives > 0 {
					at = time.Duration(i) * tt.arrives
				}
				if s.pick(tt.pts(i), began.Add(at)) {
					got++
				}
			}
			if got < tt.want-1 || got > tt.want+1 {
				t.Errorf("picked %d of %d, want %d", got, tt.n, tt.want)
			}
		})
	}
}

// shoot plays pictures of a camera to a sampler and counts what it picks and the longest time without a pick.
type shoot struct {
	s      *sampler
	began  time.Time
	pts    time.Duration
	picked time.Duration
}

func (x *shoot) play(d, every time.Duration) (picked int, longest time.Duration) {
	for end := x.pts + d; x.pts < end; x.pts += every {
		if x.s.pick(x.pts, x.began.Add(x.pts)) {
			longest = max(longest, x.pts-x.picked)
			x.picked = x.pts
			picked++
		}
	}
	return picked, max(longest, x.pts-x.picked)
}

func TestSamplerTakesItsShare(t *testing.T) {
	for _, tt := range []struct {
		name           string
		fps            float64
		camera         int // what the camera sends, fps
		share          float64
		want           int // pictures in 100 s
		longest        time.Duration
		wantNotLowered bool
	}{
		{"all of 10", 10, 25, 1, 1000, 120 * time.Millisecond, true},
		{"half of 10", 10, 25, 0.5, 500, 240 * time.Millisecond, false},
		{"a third of 10, of a camera of 10", 10, 10, 0.333, 333, 500 * time.Millisecond, false},
		{"a tenth of 10", 10, 25, 0.1, 100, 1300 * time.Millisecond, false},
		{"next to nothing leaves the least rate", 10, 25, 0.001, 20, 6500 * time.Millisecond, false},
		{"one below the least rate keeps its own", 0.1, 25, 0.001, 10, 12500 * time.Millisecond, true},
		{"all pictures", 0, 25, 1, 2500, 40 * time.Millisecond, true},
		{"seven tenths of all pictures", 0, 25, 0.7, 1750, 80 * time.Millisecond, false},
		{"a tenth of all pictures", 0, 25, 0.1, 250, 400 * time.Millisecond, false},
		{"next to nothing of all pictures", 0, 25, 0.001, 20, 5040 * time.Millisecond, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := &shoot{s: newSampler(tt.fps), began: time.Now()}
			x.s.lower(tt.share)
			picked, longest := x.play(100*time.Second, time.Second/time.Duration(tt.camera))
			if picked < tt.want-2 || picked > tt.want+2 {
				t.Errorf("picked %d, want %d", picked, tt.want)
			}
			if longest > tt.longest {
				t.Errorf("nothing for %v", longest)
			}
			if x.s.lowered() == tt.wantNotLowered {
				t.Errorf("lowered: %v", x.s.lowered())
			}
		})
	}
}

// A change of the share holds for the very next picture, in both directions, and makes no burst.
func TestSamplerChangesAtOnce(t *testing.T) {
	for _, fps := range []float64{10, 0} {
		x := &shoot{s: newSampler(fps), began: time.Now()}
		camera := 100 * time.Millisecond
		for i, step := range []struct {
			share float64
			want  int
		}{{1, 100}, {0.1, 10}, {1, 100}, {0.001, 2}, {0.5, 50}, {1, 100}} {
			x.s.lower(step.share)
			if got, _ := x.play(10*time.Second, camera); got < step.want-1 || got > step.want+1 {
				t.Errorf("fps %v, step %d: picked %d at share %v, want %d", fps, i, got, step.share, step.want)
			}
		}
	}
}
