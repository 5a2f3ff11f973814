// Package ledger keeps the books of the conservation law: every captured frame ends in exactly one fate, per
// camera and model, at any time:
//
//	captured = predicted + superseded + expired + quarantined + in flight + lost
//
// and lost is 0. Stages report what they saw as ranges of frame numbers (a Reporter), the books are a fold over
// those records (Books). Nothing is reported per frame.
//
// # What is evidence
//
// A stage reports predicted, expired and quarantined itself. Superseded is what a live stream's ring does
// silently, so the books conclude it, and only from evidence: the frame was acknowledged by the stream, no worker
// ever received it, and a newer frame of the camera was acknowledged after it. A frame that a worker did receive
// and that has no fate is lost: nothing else can explain it.
//
// # Concurrency
//
// A Reporter may be used by many goroutines. Books may not.
package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// Mark is one thing that can be said of a frame.
type Mark string

// Marks in the order of a frame's life. Taken and Forwarded without a fate are the evidence that tells an
// eviction from a loss.
const (
	Captured    Mark = "captured"    // ingest gave it a name
	Published   Mark = "published"   // its stream acknowledged it
	Taken       Mark = "taken"       // a worker received it
	Forwarded   Mark = "forwarded"   // preprocess handed a model's tensor to its stream
	Predicted   Mark = "predicted"   // fate: the answer was acknowledged by PREDICTIONS
	Superseded  Mark = "superseded"  // fate: a newer frame of the camera took its place
	Expired     Mark = "expired"     // fate: older than the camera's max_age
	Quarantined Mark = "quarantined" // fate: in DLQ with its payload
)

// Entry says one thing of some frames. Model is "" for what concerns every model of the camera.
type Entry struct {
	Mark   Mark   `json:"mark"`
	Model  string `json:"model,omitempty"`
	Reason string `json:"reason,omitempty"`
	Frames Ranges `json:"frames"`
}

// Record is one message on ledger.<camera>: what one stage instance saw of one epoch since its last record.
type Record struct {
	Camera   string    `json:"camera"`
	Epoch    uint64    `json:"epoch"`
	Stage    string    `json:"stage"`
	Instance string    `json:"instance"`
	At       time.Time `json:"at"`
	Route    *Route    `json:"route,omitempty"` // from ingest only
	Entries  []Entry   `json:"entries"`
}

// Route is what the books must know of a camera to judge its frames.
type Route struct {
	Delivery streams.Delivery `json:"delivery"`
	Models   []string         `json:"models"`
	MaxAge   time.Duration    `json:"max_age_ns"`
}

// Decode reads a record from a message.
func Decode(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("ledger record: %w", err)
	}
	if err := streams.CheckToken(r.Camera); err != nil {
		return r, fmt.Errorf("ledger record: camera: %w", err)
	}
	if r.Epoch == 0 {
		return r, fmt.Errorf("ledger record of %s: epoch 0", r.Camera)
	}
	return r, nil
}
