package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// maxMagnitude bounds values so that no sum of their squares leaves the range of floats.
const maxMagnitude = 1e100

// Status is what every detector tells about itself.
type Status struct {
	// Seen is how many values the present episode has; of ADWIN, all since it was made or reset.
	Seen int `json:"seen"`
	// Skipped is how many values were none that the detector can take, in all episodes.
	Skipped int `json:"skipped"`
	// Drift says that the last value raised an alarm.
	Drift bool `json:"drift"`
	// Warning says that the last value was near to raising one. ADWIN, PageHinkley and CUSUM do not warn.
	Warning bool `json:"warning"`
}

// next counts a value, and says whether it begins a new episode.
func (s *Status) next() (afresh bool) {
	if afresh = s.Drift; afresh {
		*s = Status{Skipped: s.Skipped}
	}
	s.Seen++
	return afresh
}

func (s *Status) check() error {
	if s.Seen < 0 || s.Skipped < 0 {
		return fmt.Errorf("%d values seen, %d skipped", s.Seen, s.Skipped)
	}
	return nil
}

// state is what a detector consists of.
type state interface {
	check() error
}

// decode reads state and checks it before anything of it is used.
func decode[T any, P interface {
	*T
	state
}](name string, data []byte, into *T) error {
	var read T
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&read); err != nil {
		return fmt.Errorf("state of %s: %w", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("state of %s: more than one value", name)
	}
	if err := P(&read).check(); err != nil {
		return fmt.Errorf("state of %s: %w", name, err)
	}
	*into = read
	return nil
}

// mean is a running mean.
type mean struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
}

func (m *mean) add(x float64) {
	m.N++
	m.Mean += (x - m.Mean) / float64(m.N)
}

func (m *mean) checkShare() error {
	if m.N < 0 || !share(m.Mean) {
		return fmt.Errorf("a mean of %v from %d values", m.Mean, m.N)
	}
	return nil
}

func (m *mean) check() error {
	if m.N < 0 || !sane(m.Mean) {
		return fmt.Errorf("a mean of %v from %d values", m.Mean, m.N)
	}
	return nil
}

func share(x float64) bool { return x >= 0 && x <= 1 }

func sane(x float64) bool { return math.Abs(x) <= maxMagnitude }
