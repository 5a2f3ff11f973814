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
