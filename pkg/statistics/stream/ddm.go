package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// DDMConfig is the parameters of [DDM].
type DDMConfig struct {
	// WarningLevel is at how many deviations above the least error rate there is a warning.
	WarningLevel float64 `json:"warning_level"`
	// DriftLevel is at how many there is an alarm.
	DriftLevel float64 `json:"drift_level"`
	// MinValues is from which value of an episode on it judges.
	MinValues int `json:"min_values"`
}

// DefaultDDM is the parameters of the paper, of Frouros and of river.
func DefaultDDM() DDMConfig { return DDMConfig{WarningLevel: 2, DriftLevel: 3, MinValues: 30} }

func (c DDMConfig) check() error {
	if !(c.WarningLevel > 0 && c.DriftLevel > c.WarningLevel && sane(c.DriftLevel)) || c.MinValues < 1 {
		return fmt.Errorf("ddm: warning_level %v, drift_level %v and min_values %d are not positive and in order", c.WarningLevel, c.DriftLevel, c.MinValues)
	}
	return nil
}

// DDM watches an error rate: Gama and others 2004, Learning with drift detection. It remembers where the rate p with its
// deviation s = sqrt(p(1-p)/n) was least, and warns when p+s is above that p by WarningLevel times that s. The deviation
// shrinks as an episode grows and the least one is kept, so long episodes end in false alarms; and where the first values of an
// episode have no error at all the first one is an alarm. It sees rises only.
type DDM struct {
	state ddm
}

type ddm struct {
	Config DDMConfig `json:"config"`
	Status
	Rate mean `json:"rate"`
	// LeastRate and LeastDeviation are from when their sum was least; there are none before value MinValues.
	LeastRate      float64 `json:"least_rate"`
	LeastDeviation float64 `json:"least_deviation"`
}

// NewDDM is a detector that has seen nothing.
func NewDDM(config DDMConfig) (*DDM, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return &DDM{ddm{Config: config}}, nil
}

// Add takes the next value, 1 for an error and 0 for none, or a share of errors in between.
func (d *DDM) Add(x float64) (drift bool) {
	s := &d.state
	if !share(x) {
		s.Skipped++
		return false
	}
	if s.next() {
		*s = ddm{Config: s.Config, Status: s.Status}
	}
	s.Rate.add(x)
	s.Warning = false
	if s.Seen < s.Config.MinValues {
		return false
	}
	deviation := math.Sqrt(max(0, s.Rate.Mean*(1-s.Rate.Mean)) / float64(s.Seen))
	now := s.Rate.Mean + deviation
	if s.Seen == s.Config.MinValues || now < s.LeastRate+s.LeastDeviation {
		s.LeastRate, s.LeastDeviation = s.Rate.Mean, deviation
	}
	s.Drift = now > s.LeastRate+s.Config.DriftLevel*s.LeastDeviation
	s.Warning = !s.Drift && now > s.LeastRate+s.Config.WarningLevel*s.LeastDeviation
	return s.Drift
}

// Rate is the error rate of the present episode.
func (d *DDM) Rate() float64 { return d.state.Rate.Mean }

// Status tells about the detector.
func (d *DDM) Status() Status { return d.state.Status }

// Reset begins a new episode.
func (d *DDM) Reset() {
	d.state = ddm{Config: d.state.Config, Status: Status{Skipped: d.state.Skipped}}
}

// MarshalJSON writes parameters and state.
func (d *DDM) MarshalJSON() ([]byte, error) { return json.Marshal(d.state) }

// UnmarshalJSON takes over parameters and state.
func (d *DDM) UnmarshalJSON(data []byte) error { return decode("ddm", data, &d.state) }

func (s *ddm) check() error {
	if s.Rate.N != s.Seen || !share(s.LeastRate) || !share(s.LeastDeviation) {
		return fmt.Errorf("%d values, %d of them in the rate, least rate %v and deviation %v", s.Seen, s.Rate.N, s.LeastRate, s.LeastDeviation)
	}
	return errors.Join(s.Config.check(), s.Status.check(), s.Rate.checkShare())
}
