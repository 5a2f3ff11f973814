package detect

import (
	"encoding/json"
	"fmt"

	"github.com/sightline-dev/sightline/services/drift-monitor/reference"
)

// EncodeApart is the detector's state without its reference, which changes far less often and is stored by itself.
func (d *Detector) EncodeApart() ([]byte, error) {
	s := d.s
	s.Reference = nil
	return json.Marshal(&s)
}

// DecodeApart continues from what EncodeApart wrote, with the reference of that time or a later one. It refuses what EncodeApart would not
// have written.
func DecodeApart(cfg Config, r *reference.Reference, data []byte) (*Detector, error) {
	d, err := New(cfg, r)
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("detect: %w", err)
	}
	if s.Format != stateFormat {
		return nil, fmt.Errorf("detect: state of format %d, this program reads %d", s.Format, stateFormat)
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	s.Reference = r
	d.s = s
	return d, nil
}
