package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// HDDMConfig is the parameters of [HDDM].
type HDDMConfig struct {
	// Drift is the significance of an alarm.
	Drift float64 `json:"drift"`
	// Warning is the significance of a warning.
	Warning float64 `json:"warning"`
	// MinValues is from which value of an episode on it judges.
	MinValues int `json:"min_values"`
}

// DefaultHDDM is the parameters of the paper and of Frouros.
func DefaultHDDM() HDDMConfig { return HDDMConfig{Drift: 0.001, Warning: 0.005, MinValues: 30} }

func (c HDDMConfig) check() error {
	if !(c.Drift > 0 && c.Warning > c.Drift && c.Warning < 1) || c.MinValues < 1 {
		return fmt.Errorf("hddm: drift %v and warning %v are not in order between 0 and 1, or min_values %d is not positive", c.Drift, c.Warning, c.MinValues)
	}
	return nil
}

// HDDM watches the mean of values from 0 to 1: HDDM-A of Frias-Blanco and others 2015, Online and non-parametric drift detection
// methods based on Hoeffding's bounds. It remembers the part of the past whose mean, with its bound, was least, and raises an
// alarm when the mean of all is above that by more than Hoeffding's bound for the difference. Nothing but the range is
// supposed. It sees rises only: for falls feed another one 1-x.
type HDDM struct {
	state hddm
}

type hddm struct {
	Config HDDMConfig `json:"config"`
	Status
	All mean `json:"all"`
	// Least is All as it was when its mean plus bound was least.
	Least mean `json:"least"`
}

// NewHDDM is a detector that has seen nothing.
func NewHDDM(config HDDMConfig) (*HDDM, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return &HDDM{hddm{Config: config}}, nil
}

// Add takes the next value, from 0 to 1.
func (d *HDDM) Add(x float64) (drift bool) {
	s := &d.state
	if !share(x) {
		s.Skipped++
		return false
	}
	if s.next() {
		*s = hddm{Config: s.Config, Status: s.Status}
	}
	s.All.add(x)
	bound := func(m mean) float64 { return m.Mean + math.Sqrt(math.Log(1/s.Config.Drift)/(2*float64(m.N))) }
	if s.Least.N == 0 || bound(s.All) <= bound(s.Least) {
		s.Least = s.All
	}
	s.Warning = false
	if s.Seen < s.Config.MinValues || s.Least.N == s.All.N {
		return false
	}
	apart := s.All.Mean - s.Least.Mean
	part := float64(s.All.N-s.Least.N) / (2 * float64(s.Least.N) * float64(s.All.N))
	s.Drift = apart >= math.Sqrt(part*math.Log(1/s.Config.Drift))
	s.Warning = !s.Drift && apart >= math.Sqrt(part*math.Log(1/s.Config.Warning))
	return s.Drift
}

// Mean is that of the present episode.
func (d *HDDM) Mean() float64 { return d.state.All.Mean }

// Status tells about the detector.
func (d *HDDM) Status() Status { return d.state.Status }

// Reset begins a new episode.
func (d *HDDM) Reset() {
	d.state = hddm{Config: d.state.Config, Status: Status{Skipped: d.state.Skipped}}
}

// MarshalJSON writes parameters and state.
func (d *HDDM) MarshalJSON() ([]byte, error) { return json.Marshal(d.state) }

// UnmarshalJSON takes over parameters and state.
func (d *HDDM) UnmarshalJSON(data []byte) error { return decode("hddm", data, &d.state) }

func (s *hddm) check() error {
	if s.All.N != s.Seen || s.Least.N > s.All.N {
		return fmt.Errorf("%d values, %d in the mean, %d in the least", s.Seen, s.All.N, s.Least.N)
	}
	return errors.Join(s.Config.check(), s.Status.check(), s.All.checkShare(), s.Least.checkShare())
}
