package stream

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// ADWINConfig is the parameters of [ADWIN].
type ADWINConfig struct {
	// Delta is the confidence: about the chance of a false alarm at a look at the window.
	Delta float64 `json:"delta"`
	// Clock is after how many values it looks.
	Clock int `json:"clock"`
	// MaxBuckets is how many buckets of one size there may be: the finer, the more memory and time a look takes.
	MaxBuckets int `json:"max_buckets"`
	// MinWindow is how many values each of two parts must have more than to be compared.
	MinWindow int `json:"min_window"`
	// MinValues is how many values the window must have more than to be looked at.
	MinValues int `json:"min_values"`
	// Sparse looks only where Frouros and river do, so that alarms come at the same values as theirs. Both pass over the
	// newest bucket of each size, which leaves values out of the older part that belong to it, and allow for MinWindow the
	// other way round. Changes are noticed later: 227 values after the change of our reference stream rather than 99.
	Sparse bool `json:"sparse"`
}

// DefaultADWIN is the parameters of Frouros, river and MOA, and the places of the paper and MOA.
func DefaultADWIN() ADWINConfig {
	return ADWINConfig{Delta: 0.002, Clock: 32, MaxBuckets: 5, MinWindow: 5, MinValues: 10}
}

func (c ADWINConfig) check() error {
	if !(c.Delta > 0 && c.Delta < 1) || c.Clock < 1 || c.MaxBuckets < 1 || c.MaxBuckets > 1000 || c.MinWindow < 1 || c.MinValues < 1 {
		return fmt.Errorf("adwin: delta %v is not between 0 and 1, or clock %d, max_buckets %d (up to 1000), min_window %d or min_values %d is not positive",
			c.Delta, c.Clock, c.MaxBuckets, c.MinWindow, c.MinValues)
	}
	return nil
}

// ADWIN keeps a window of the last values, as long as one mean fits them all: Bifet and Gavalda 2007, Learning from
// time-changing data with adaptive windowing. Every Clock values it looks for a place at which the mean of what came before
// differs from that of what came after by more than chance allows; if there is one it raises an alarm and drops its oldest
// values, until there is none. The bound supposes values from 0 to 1 or so: scale them.
//
// The window is kept as sums over 1, 2, 4, ... values, up to MaxBuckets of each: some hundred numbers for a million values. The
// bound is the paper's for windows with a variance, its ln(n) correction and the allowance for MinWindow as in MOA.
type ADWIN struct {
	state adwin
}

type adwin struct {
	Config ADWINConfig `json:"config"`
	Status
	// Rows[i] is of buckets of 2^i values, the oldest first; of a later row every one is older.
	Rows [][]bucket `json:"rows"`
}

// bucket is values that are remembered by their sum and by the sum of their squared distances from their mean.
type bucket struct {
	Sum     float64 `json:"s"`
	Squares float64 `json:"q"`
}

// NewADWIN is a detector with an empty window.
func NewADWIN(config ADWINConfig) (*ADWIN, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return &ADWIN{adwin{Config: config}}, nil
}

// Add takes the next value and says whether the window was cut.
func (d *ADWIN) Add(x float64) (drift bool) {
	s := &d.state
	if !sane(x) {
		s.Skipped++
		return false
	}
	s.Drift = false
	s.Seen++
	s.insert(bucket{Sum: x})
	if s.Seen%s.Config.Clock == 0 {
		for s.cut() {
			s.Drift = true
		}
	}
	return s.Drift
}

// Width is how many values the window has.
func (d *ADWIN) Width() int {
	n, _ := d.state.window()
	return n
}

// Mean is that of the window, 0 of an empty one.
func (d *ADWIN) Mean() float64 {
	n, all := d.state.window()
	return all.Sum / max(1, float64(n))
}

// Variance is that of the window, over n.
func (d *ADWIN) Variance() float64 {
	n, all := d.state.window()
	return all.Squares / max(1, float64(n))
}

// Status tells about the detector.
func (d *ADWIN) Status() Status { return d.state.Status }

// Reset empties the window.
func (d *ADWIN) Reset() {
	d.state = adwin{Config: d.state.Config, Status: Status{Skipped: d.state.Skipped}}
}

// MarshalJSON writes parameters and state.
func (d *ADWIN) MarshalJSON() ([]byte, error) { return json.Marshal(d.state) }

// UnmarshalJSON takes over parameters and state.
func (d *ADWIN) UnmarshalJSON(data []byte) error { return decode("adwin", data, &d.state) }

// insert adds a bucket of one value, and makes one bucket of two where a row has too many.
func (s *adwin) insert(b bucket) {
	for i := 0; ; i++ {
		if i == len(s.Rows) {
			s.Rows = append(s.Rows, nil)
		}
		s.Rows[i] = append(s.Rows[i], b)
		if len(s.Rows[i]) <= s.Config.MaxBuckets {
			return
		}
		size := float64(int(1) << i)
		b = s.Rows[i][0].with(size, s.Rows[i][1], size)
		s.Rows[i] = slices.Delete(s.Rows[i], 0, 2)
	}
}

// with is one bucket of two.
func (b bucket) with(n float64, other bucket, m float64) bucket {
	if n == 0 {
		return other
	}
	apart := b.Sum/n - other.Sum/m
	return bucket{Sum: b.Sum + other.Sum, Squares: b.Squares + other.Squares + apart*apart*n*m/(n+m)}
}

// window is all of it as one bucket. It is added up anew every time, because sums that values were taken off again would
// lose their accuracy over days.
func (s *adwin) window() (int, bucket) {
	n, all := 0, bucket{}
	for i, row := range slices.Backward(s.Rows) {
		for _, b := range row {
			all = all.with(float64(n), b, float64(int(1)<<i))
			n += 1 << i
		}
	}
	return n, all
}

// cut drops the oldest bucket if the window has a place at which its mean changes.
func (s *adwin) cut() bool {
	n, all := s.window()
	if n <= s.Config.MinValues {
		return false
	}
	variance, chance := all.Squares/float64(n), math.Log(2*math.Log(float64(n))/s.Config.Delta)
	least := s.Config.MinWindow - 1
	if s.Config.Sparse {
		least = s.Config.MinWindow + 1
	}
	before, sum := 0, 0.0
	for i, row := range slices.Backward(s.Rows) {
		if s.Config.Sparse && len(row) > 0 {
			row = row[:len(row)-1]
		}
		for _, b := range row {
			before += 1 << i
			sum += b.Sum
			after := n - before
			if before <= s.Config.MinWindow || after <= s.Config.MinWindow {
				continue
			}
			apart := math.Abs(sum/float64(before) - (all.Sum-sum)/float64(after))
			parts := 1/float64(before-least) + 1/float64(after-least)
			if apart > math.Sqrt(2*parts*variance*chance)+2.0/3*chance*parts {
				s.dropOldest()
				return true
			}
		}
	}
	return false
}

func (s *adwin) dropOldest() {
	last := len(s.Rows) - 1
	s.Rows[last] = slices.Delete(s.Rows[last], 0, 1)
	for ; last >= 0 && len(s.Rows[last]) == 0; last-- {
		s.Rows = s.Rows[:last]
	}
}

func (s *adwin) check() error {
	if err := s.Config.check(); err != nil {
		return err
	}
	if len(s.Rows) > 50 || len(s.Rows) > 0 && len(s.Rows[len(s.Rows)-1]) == 0 {
		return fmt.Errorf("%d rows of buckets are more than 50, or the last one is empty", len(s.Rows))
	}
	for i, row := range s.Rows {
		if len(row) > s.Config.MaxBuckets {
			return fmt.Errorf("%d buckets in row %d, at most %d", len(row), i, s.Config.MaxBuckets)
		}
		for _, b := range row {
			if size := float64(int(1) << i); !sane(b.Sum/size) || !(b.Squares >= 0 && b.Squares/size <= 4*maxMagnitude*maxMagnitude) {
				return fmt.Errorf("a bucket in row %d of sum %v and squares %v", i, b.Sum, b.Squares)
			}
		}
	}
	return s.Status.check()
}
