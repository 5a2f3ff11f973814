package integrity

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
)

// snapshot is what a restart must not lose. The last seconds of motion are not in it: a frozen picture is found anew.
type snapshot struct {
	View   view                   `json:"view"`
	Alarms map[drift.Fault]*alarm `json:"alarms,omitempty"`
	Last   time.Time              `json:"last"`
	Epoch  uint64                 `json:"epoch"`
	Since  time.Time              `json:"since"`
}

// Save writes what is known.
func (c *Camera) Save() ([]byte, error) {
	data, err := json.Marshal(snapshot{View: c.view, Alarms: c.alarms, Last: c.last, Epoch: c.epoch, Since: c.since})
	if err != nil {
		return nil, fmt.Errorf("integrity: %w", err)
	}
	return data, nil
}

// Load reads what Save wrote.
func Load(data []byte) (*Camera, error) {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("integrity: %w", err)
	}
	return &Camera{view: s.View, alarms: s.Alarms, last: s.Last, epoch: s.Epoch, since: s.Since, first: s.Last}, nil
}
