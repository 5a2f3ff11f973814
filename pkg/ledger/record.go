// Package ledger keeps the books of the conservation law: every captured frame ends in exactly one fate, per
// camera and model, at any time:
//
//	captured = predicted + superseded + expired + quarantined + in flight + lost
//
// and lost is 0. Stages report what they saw as ranges of frame numbers (a Reporter), the books are a fold over
// those records (Books), and an Auditor keeps them for longer than their stream does. Nothing is reported per frame.
//
// # What is evidence
//
// A stage reports predicted, expired and quarantined itself. Superseded is what a live stream's ring does
// silently, so the books conclude it, and only from evidence: the frame was acknowledged by the stream, nobody had it
// in hand, and a newer frame of the camera was acknowledged after it. Nobody has a frame in hand that no worker ever
// received, and none that everybody who received it has handed back (Returned), or died with (an Incident says so):
// such a frame was in the ring again. A frame that a worker did receive, and neither gave back nor died with, and that
// has no fate, is lost: nothing else can explain it.
//
// What an operator purged from a stream (an Incident too) is expired, as far as the stream had acknowledged it and
// nobody had it in hand.
//
// # When the books conclude
//
// Not before whoever had a hand in a frame must have reported. Reporters of many cameras report less often (see
// Reporter); every record says how often, and the books wait accordingly (see pace).
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

// Marks in the order of a frame's life. Taken, Returned and Forwarded without a fate are the evidence that tells an
// eviction from a loss.
const (
	Captured    Mark = "captured"    // ingest gave it a name
	Published   Mark = "published"   // its stream acknowledged it
	Taken       Mark = "taken"       // a worker received it
	Returned    Mark = "returned"    // that worker handed it back unanswered: its stream may give it to the next
	Forwarded   Mark = "forwarded"   // preprocess handed a model's tensor to its stream
	Predicted   Mark = "predicted"   // fate: the answer was acknowledged by PREDICTIONS
	Superseded  Mark = "superseded"  // fate: a newer frame of the camera took its place
	Expired     Mark = "expired"     // fate: older than the camera's max_age
	Quarantined Mark = "quarantined" // fate: in DLQ with its payload
)

// Reasons of fates that the books conclude. Stages have their own.
const (
	reasonFrameRing  = "frame_ring"
	reasonTensorRing = "tensor_ring"
	reasonRestart    = "restart"
	reasonReturned   = "returned"
	reasonWorkerDied = "worker_died"
	reasonPurged     = "purged"
)

// Entry says one thing of some frames. Model is "" for what concerns every model of the camera.
type Entry struct {
	Mark   Mark   `json:"mark"`
	Model  string `json:"model,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Again tells the takes of a frame by one process apart, and what was returned: how often it had handed it back
	// before. A frame that it returned and took again is in its hands.
	Again  int    `json:"again,omitempty"`
	Frames Ranges `json:"frames"`
}

// Record is one message on ledger.<camera>: what one stage instance saw of one epoch since its last record.
type Record struct {
	Camera   string    `json:"camera"`
	Epoch    uint64    `json:"epoch"`
	Stage    string    `json:"stage"`
	Instance string    `json:"instance"`
	Run      int64     `json:"run,omitempty"`      // when the instance began, in Unix milliseconds: a process that follows has another
	Every    int64     `json:"every_ms,omitempty"` // how often it reports; 0 is FlushInterval
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

// Message is what LEDGER holds: a record or an incident. One of the two is not nil.
type Message struct {
	Sequence uint64 // in LEDGER
	Record   *Record
	Incident *Incident
}

// DecodeMessage reads a message of LEDGER, stored by the broker at a time. That time is what the books go by: it is
// one clock for all records.
func DecodeMessage(subject string, data []byte, stored time.Time) (Message, error) {
	if subject == streams.IncidentSubject {
		i, err := decodeIncident(data)
		if i.At.After(stored) { // a clock that is ahead: it cannot be told before it happens
			i.At = stored.UTC()
		}
		return Message{Incident: &i}, err
	}
	r, err := Decode(data)
	r.At = stored
	return Message{Record: &r}, err
}
