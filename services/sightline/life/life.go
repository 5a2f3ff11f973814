// Package life tells the whole life of one frame from what the streams remember: when it was captured, who had it in hand,
// which attempt answered it, what became of it, and what happened to its camera and its workers meanwhile. It only reads.
//
// # What is known, and how well
//
// LEDGER tells ranges of frames, some intervals late: what it says of a frame happened in the interval before a record was
// stored. A [Step] therefore has an earliest and a latest time; what a prediction says of itself is exact, by the clock of the
// host that says it. Whatever is not known is in [Life.Unknown], with the reason. LEDGER and PREDICTIONS remember 24 hours, DLQ
// and EVENTS 7 days.
//
// # What it costs
//
// LEDGER is searched by halves for the record of the frame's capture; then two minutes of the camera's records are read, and
// headers of its predictions over the time in which the ledger mentions the frame. Only a frame that cannot be found in that
// way has all of its camera's records read.
package life

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// Life is what is known of a frame.
type Life struct {
	Frame  string `json:"frame"`
	Camera string `json:"camera"`
	Epoch  uint64 `json:"epoch"`
	Seq    uint64 `json:"seq"`
	// Known says that somebody told of the frame.
	Known      bool             `json:"known"`
	CapturedAt time.Time        `json:"captured_at,omitzero"` // by the clock of its ingest's host
	Delivery   streams.Delivery `json:"delivery,omitempty"`
	MaxAge     time.Duration    `json:"max_age_ns,omitempty"`
	TraceID    string           `json:"trace_id,omitempty"`
	Fates      []Fate           `json:"fates"`
	Answers    []Answer         `json:"answers,omitempty"`
	DeadLetter []DeadLetter     `json:"dead_letters,omitempty"`
	Places     []Place          `json:"places,omitempty"`
	Steps      []Step           `json:"steps"`
	// Unknown is what is not known, and why.
	Unknown []string `json:"unknown,omitempty"`
}

// Fate is what became of the frame for one model.
type Fate struct {
	Model string `json:"model"`
	// Fate is predicted, superseded, expired, quarantined, in_flight or lost.
	Fate   ledger.Mark `json:"fate"`
	Reason string      `json:"reason,omitempty"`
	// By says how it is known: told (by a stage), concluded (by the books), stored (the outcome itself was found).
	By string `json:"by"`
}

// How a fate is known.
const (
	byTold      = "told"
	byConcluded = "concluded"
	byStored    = "stored"
)

// Answer is a prediction of the frame.
type Answer struct {
	Sequence uint64    `json:"sequence"` // in PREDICTIONS
	StoredAt time.Time `json:"stored_at"`
	predictions.Prediction
}

// DeadLetter is an entry of DLQ for the frame.
type DeadLetter struct {
	Sequence uint64    `json:"sequence"` // in DLQ: sightline dlq show
	At       time.Time `json:"at"`
	Stage    string    `json:"stage"`
	Model    string    `json:"model,omitempty"`
	Version  string    `json:"version,omitempty"`
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	Replayed bool      `json:"replayed,omitempty"`
}

// Place is a stream that holds the frame now, and who has it in hand.
type Place struct {
	Stream   string    `json:"stream"`
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"sequence"`
	Since    time.Time `json:"since"`
	Worker   string    `json:"worker,omitempty"` // "" while it waits
}

// Step is one thing that happened. It did between Earliest and Latest; where they are the same, at that time.
type Step struct {
	Earliest time.Time `json:"earliest"`
	Latest   time.Time `json:"latest"`
	Source   string    `json:"source"` // the stream that remembers it
	Stage    string    `json:"stage,omitempty"`
	Instance string    `json:"instance,omitempty"`
	What     string    `json:"what"` // a mark of the ledger, or area/kind of an event
	Model    string    `json:"model,omitempty"`
	// Again is how often the instance had handed the frame back before it took it this time.
	Again  int    `json:"again,omitempty"`
	Detail string `json:"detail,omitempty"`

	rank int // of steps at the same time
}

// Exact reports whether the time of a step is known.
func (s Step) Exact() bool { return s.Earliest.Equal(s.Latest) }

// Lost reports whether nothing explains what became of the frame for some model.
func (l Life) Lost() bool {
	for _, f := range l.Fates {
		if f.Fate == ledger.Lost {
			return true
		}
	}
	return false
}

// Tell tells the life of a frame. It returns an error when the broker does not answer; what the streams have forgotten, or do
// not know yet, is no error.
func Tell(ctx context.Context, js jetstream.JetStream, n frame.Name) (Life, error) {
	return tell(ctx, js, n, time.Now())
}

func tell(ctx context.Context, js jetstream.JetStream, n frame.Name, now time.Time) (Life, error) {
	t := &teller{js: js, name: n, now: now, books: &ledger.Books{}, life: Life{
		Frame: n.String(), Camera: n.Camera, Epoch: n.Epoch, Seq: n.Seq, Fates: []Fate{}, Steps: []Step{},
	}}
	for _, read := range []func(context.Context) error{t.readLedger, t.readReplays, t.readDLQ, t.readPredictions, t.readEvents, t.findPlaces} {
		if err := read(ctx); err != nil {
			return t.life, fmt.Errorf("trace %s: %w", n, err)
		}
	}
	t.conclude()
	t.order()
	return t.life, nil
}

// teller gathers what is known.
type teller struct {
	js   jetstream.JetStream
	name frame.Name
	now  time.Time
	life Life

	books     *ledger.Books
	mentioned []time.Time   // when LEDGER mentioned the frame
	near      time.Time     // when it must have been captured, about; zero is unknown
	edge      edge          // what LEDGER knows around the frame
	hands     map[hand]bool // who told of having had it
	ended     []string      // models whose answer, or quarantine, is certain
	pace      time.Duration // how often reporters report
	route     ledger.Route  // how the frame's epoch is judged
	routed    bool          // whether that is known
	judged    []ledger.Judgment
	replayed  time.Time // when somebody put it back last
}

// hand is a process of a stage.
type hand struct{ stage, instance string }

func (t *teller) unknown(format string, args ...any) {
	t.life.Unknown = append(t.life.Unknown, fmt.Sprintf(format, args...))
}
