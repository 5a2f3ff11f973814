package statistics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// stored is a profile as it is stored; how many values there are is the sum of the counts.
type stored struct {
	Edges  []float64 `json:"edges"`
	Counts []uint64  `json:"counts"`
	Mean   float64   `json:"mean"`
	M2     float64   `json:"m2"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
}

// MarshalJSON writes the profile, in about a kilobyte.
func (p *Profile) MarshalJSON() ([]byte, error) {
	return json.Marshal(stored{p.edges, p.counts, p.mean, p.m2, p.least, p.most})
}

// UnmarshalJSON reads a profile. What no profile can be is refused, and leaves the profile as it was.
func (p *Profile) UnmarshalJSON(data []byte) error {
	var s stored
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	read, err := NewProfile(s.Edges)
	if err != nil {
		return err
	}
	if len(s.Counts) != len(read.counts) {
		return fmt.Errorf("profile: %d counts for %d edges", len(s.Counts), len(s.Edges))
	}
	for i, c := range s.Counts {
		if c > maxCount-read.n {
			return errors.New("profile: counts are too large")
		}
		read.counts[i] = c
		read.n += c
	}
	if err := checkFinite("mean, least and greatest", []float64{s.Mean, s.Min, s.Max}, 3); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if !(s.M2 >= 0) || s.M2 > float64(read.n)*4*maxMagnitude*maxMagnitude || s.Min > s.Max {
		return fmt.Errorf("profile: %d values from %v to %v, squares of %v", read.n, s.Min, s.Max, s.M2)
	}
	if read.n > 0 {
		read.mean, read.m2, read.least, read.most = s.Mean, s.M2, s.Min, s.Max
	}
	*p = *read
	return nil
}
