package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// EDDMConfig is the parameters of [EDDM].
type EDDMConfig struct {
	// Alpha is below which part of the largest distance between errors there is a warning.
	Alpha float64 `json:"alpha"`
	// Beta is below which part there is an alarm.
	Beta float64 `json:"beta"`
	// Level is how many deviations are added to the mean distance.
	Level float64 `json:"level"`
	// MinErrors is from which error of an episode on it judges.
	MinErrors int `json:"min_errors"`
}

// DefaultEDDM is the parameters of Frouros; the paper has a Beta of .9 as well.
func DefaultEDDM() EDDMConfig { return EDDMConfig{Alpha: 0.95, Beta: 0.9, Level: 2, MinErrors: 30} }

func (c EDDMConfig) check() error {
	if !(c.Beta > 0 && c.Alpha > c.Beta && c.Alpha <= 1) || !(c.Level > 0 && sane(c.Level)) || c.MinErrors < 1 {
		return fmt.Errorf("eddm: beta %v and alpha %v are not in order between 0 and 1, or level %v or min_errors %d is not positive", c.Beta, c.Alpha, c.Level, c.MinErrors)
	}
	return nil
}

// EDDM watches how many values there are from one error to the next: Baena-Garcia and others 2006, Early drift detection method.
// It remembers the largest mean distance plus Level deviations, and raises an alarm when the present one is below Beta of
// that. The largest is kept from value MinErrors on, as in Frouros, rather than from error MinErrors on. It is sensitive, and
// raises many false alarms: on our reference stream three in 1500 values of a constant rate.
type EDDM struct {
	state eddm
}

type eddm struct {
	Config EDDMConfig `json:"config"`
	Status
	// LastError is at which value the last error was.
	LastError int  `json:"last_error"`
	Distance  mean `json:"distance"`
	// Squares is the sum of the squared distances from the mean distance.
	Squares float64 `json:"squares"`
	// Largest is the largest mean distance plus Level deviations, 0 for none yet.
	Largest float64 `json:"largest"`
}

// NewEDDM is a detector that has seen nothing.
func NewEDDM(config EDDMConfig) (*EDDM, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return &EDDM{eddm{Config: config}}, nil
}

// Add takes the next value, 1 for an error and 0 for none.
func (d *EDDM) Add(x float64) (drift bool) {
	s := &d.state
	if x != 0 && x != 1 {
		s.Skipped++
		return false
	}
	if s.next() {
		*s = eddm{Config: s.Config, Status: s.Status}
	}
	if x == 0 {
		s.Warning = false
		return false
	}
	distance, before := float64(s.Seen-s.LastError), s.Distance.Mean
	s.LastError = s.Seen
	s.Distance.add(distance)
	s.Squares += (distance - before) * (distance - s.Distance.Mean)
	if s.Seen < s.Config.MinErrors {
		return false
	}
	now := s.Distance.Mean + s.Config.Level*math.Sqrt(s.Squares/float64(s.Distance.N))
	switch {
	case now > s.Largest:
		s.Largest = now
		s.Warning = false
	case s.Distance.N >= s.Config.MinErrors:
		s.Drift = now < s.Config.Beta*s.Largest
		s.Warning = !s.Drift && now < s.Config.Alpha*s.Largest
	}
	return s.Drift
}

// Distance is the mean number of values from one error to the next in the present episode, 0 before the first.
func (d *EDDM) Distance() float64 { return d.state.Distance.Mean }

// Status tells about the detector.
func (d *EDDM) Status() Status { return d.state.Status }

// Reset begins a new episode.
func (d *EDDM) Reset() {
	d.state = eddm{Config: d.state.Config, Status: Status{Skipped: d.state.Skipped}}
}

// MarshalJSON writes parameters and state.
func (d *EDDM) MarshalJSON() ([]byte, error) { return json.Marshal(d.state) }

// UnmarshalJSON takes over parameters and state.
func (d *EDDM) UnmarshalJSON(data []byte) error { return decode("eddm", data, &d.state) }

func (s *eddm) check() error {
	if s.LastError < 0 || s.LastError > s.Seen || s.Distance.N > s.LastError || !(s.Squares >= 0 && sane(s.Squares)) || !(s.Largest >= 0 && sane(s.Largest)) {
		return fmt.Errorf("%d errors, the last at value %d of %d, squares %v, largest distance %v", s.Distance.N, s.LastError, s.Seen, s.Squares, s.Largest)
	}
	return errors.Join(s.Config.check(), s.Status.check(), s.Distance.check())
}
