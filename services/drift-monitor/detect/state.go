package detect

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

// Encode is the detector's whole state, its reference included, as JSON.
func (d *Detector) Encode() ([]byte, error) { return json.Marshal(&d.s) }

// Decode continues from what Encode wrote; cfg is not part of it. It refuses what Encode would not have written.
func Decode(cfg Config, data []byte) (*Detector, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("detect: %w", err)
	}
	if s.Format != stateFormat || s.Reference == nil {
		return nil, fmt.Errorf("detect: state of format %d, this program reads %d", s.Format, stateFormat)
	}
	if s.Reference.Buckets == nil {
		s.Reference.Buckets = map[int]*reference.Bucket{}
	}
	d, err := New(cfg, s.Reference)
	if err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	d.s = s
	return d, nil
}

func (s *state) validate() error {
	if s.Slot < -1 || s.Slot > 23 {
		return fmt.Errorf("detect: slot %d", s.Slot)
	}
	if rank(s.State) < 0 && s.State != NotEnoughData {
		return fmt.Errorf("detect: state %q", s.State)
	}
	if len(s.Blocks) > reference.Long {
		return fmt.Errorf("detect: %d blocks", len(s.Blocks))
	}
	errs := []error{s.Current.Validate()}
	for i := range s.Blocks {
		errs = append(errs, s.Blocks[i].Validate())
	}
	if s.Learner != nil {
		errs = append(errs, s.Learner.Validate())
	}
	if s.Sudden != nil {
		errs = append(errs, s.Sudden.validate())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detect: %w", err)
	}
	return nil
}
