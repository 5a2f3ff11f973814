package stream

import (
	"encoding/json"
	"errors"
	"fmt"
)

// PageHinkleyConfig is the parameters of [PageHinkley].
type PageHinkleyConfig struct {
	// Delta is how far above the mean a value must be to count.
	Delta float64 `json:"delta"`
	// Lambda is above which sum there is an alarm, in units of the values.
	Lambda float64 `json:"lambda"`
	// Alpha is what is left of the sum after one more value.
	Alpha float64 `json:"alpha"`
	// MinValues is from which value of an episode on it judges.
	MinValues int `json:"min_values"`
}

// DefaultPageHinkley is the parameters of Frouros and river.
func DefaultPageHinkley() PageHinkleyConfig {
	return PageHinkleyConfig{Delta: 0.005, Lambda: 50, Alpha: 0.9999, MinValues: 30}
}

// PageHinkley adds up how far values are above the mean of the episode so far, and raises an alarm when that comes to Lambda:
// Page 1954, Continuous inspection schemes, with a fading factor. As in Frouros it is the sum itself that is compared; the
// paper compares it with the least that it was, so an alarm may come later here. It sees rises only: for falls feed another
// one -x.
type PageHinkley struct {
	state pageHinkley
}

type pageHinkley struct {
	Config PageHinkleyConfig `json:"config"`
	Status
	Sum  float64 `json:"sum"`
	Mean mean    `json:"mean"`
}

func (c PageHinkleyConfig) check() error {
	if !(c.Alpha > 0 && c.Alpha <= 1) {
		return fmt.Errorf("page-hinkley: alpha %v is not more than 0 and up to 1", c.Alpha)
	}
	if err := checkSum(c.Delta, c.Lambda, c.MinValues); err != nil {
		return fmt.Errorf("page-hinkley: %w", err)
	}
	return nil
}

func checkSum(delta, lambda float64, minValues int) error {
	if !(delta >= 0 && sane(delta)) || !(lambda > 0 && sane(lambda)) || minValues < 1 {
		return fmt.Errorf("delta %v is below 0, or lambda %v or min_values %d is not positive", delta, lambda, minValues)
	}
	return nil
}

// NewPageHinkley is a detector that has seen nothing.
func NewPageHinkley(config PageHinkleyConfig) (*PageHinkley, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return &PageHinkley{pageHinkley{Config: config}}, nil
}

// Add takes the next value.
func (d *PageHinkley) Add(x float64) (drift bool) {
	s := &d.state
	if !sane(x) {
		s.Skipped++
		return false
	}
	if s.next() {
		*s = pageHinkley{Config: s.Config, Status: s.Status}
	}
	s.Mean.add(x)
	s.Sum = s.Config.Alpha*s.Sum + x - s.Mean.Mean - s.Config.Delta
	s.Drift = s.Seen >= s.Config.MinValues && s.Sum > s.Config.Lambda
	return s.Drift
}

// Sum is what is compared with Lambda.
func (d *PageHinkley) Sum() float64 { return d.state.Sum }

// Status tells about the detector.
func (d *PageHinkley) Status() Status { return d.state.Status }

// Reset begins a new episode.
func (d *PageHinkley) Reset() {
	d.state = pageHinkley{Config: d.state.Config, Status: Status{Skipped: d.state.Skipped}}
}

// MarshalJSON writes parameters and state.
func (d *PageHinkley) MarshalJSON() ([]byte, error) { return json.Marshal(d.state) }

// UnmarshalJSON takes over parameters and state.
func (d *PageHinkley) UnmarshalJSON(data []byte) error {
	return decode("page-hinkley", data, &d.state)
}

func (s *pageHinkley) check() error {
	return errors.Join(s.Config.check(), s.Status.check(), s.Mean.check())
}

// CUSUMConfig is the parameters of [CUSUM].
type CUSUMConfig struct {
	// Delta is how far above the mean a value must be to count.
	Delta float64 `json:"delta"`
	// Lambda is above which sum there is an alarm, in units of the values.
	Lambda float64 `json:"lambda"`
	// MinValues is from which value of an episode on it judges.
	MinValues int `json:"min_values"`
}

// DefaultCUSUM is the parameters of Frouros.
func DefaultCUSUM() CUSUMConfig { return CUSUMConfig{Delta: 0.005, Lambda: 50, MinValues: 30} }

func (c CUSUMConfig) check() error {
	if err := checkSum(c.Delta, c.Lambda, c.MinValues); err != nil {
		return fmt.Errorf("cusum: %w", err)
	}
	return nil
}

// CUSUM adds up how far values are above the mean of the episode so far, never below 0, and raises an alarm when that comes to
// Lambda: Page 1954, Continuous inspection schemes. It sees rises only: for falls feed another one -x.
type CUSUM struct {
	state cusum
}

type cusum struct {
	Config CUSUMConfig `json:"config"`
	Status
	Sum  float64 `json:"sum"`
	Mean mean    `json:"mean"`
}

// NewCUSUM is a detector that has seen nothing.
func NewCUSUM(config CUSUMConfig) (*CUSUM, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return &CUSUM{cusum{Config: config}}, nil
}

// Add takes the next value.
func (d *CUSUM) Add(x float64) (drift bool) {
	s := &d.state
	if !sane(x) {
		s.Skipped++
		return false
	}
	if s.next() {
		*s = cusum{Config: s.Config, Status: s.Status}
	}
	s.Mean.add(x)
	s.Sum = max(0, s.Sum+x-s.Mean.Mean-s.Config.Delta)
	s.Drift = s.Seen >= s.Config.MinValues && s.Sum > s.Config.Lambda
	return s.Drift
}

// Sum is what is compared with Lambda.
func (d *CUSUM) Sum() float64 { return d.state.Sum }

// Status tells about the detector.
func (d *CUSUM) Status() Status { return d.state.Status }

// Reset begins a new episode.
func (d *CUSUM) Reset() {
	d.state = cusum{Config: d.state.Config, Status: Status{Skipped: d.state.Skipped}}
}

// MarshalJSON writes parameters and state.
func (d *CUSUM) MarshalJSON() ([]byte, error) { return json.Marshal(d.state) }

// UnmarshalJSON takes over parameters and state.
func (d *CUSUM) UnmarshalJSON(data []byte) error { return decode("cusum", data, &d.state) }

func (s *cusum) check() error {
	if !(s.Sum >= 0) {
		return fmt.Errorf("a sum of %v", s.Sum)
	}
	return errors.Join(s.Config.check(), s.Status.check(), s.Mean.check())
}
