// Package dlq is what operators do with quarantined messages: look at them, put them back, drop them.
//
// # Putting back
//
// A message goes back to where a worker takes it again, and leaves DLQ only after its stream has acknowledged it: a
// crash in between leaves it in both, and what comes of it is told from a double by the frame's name. It goes back
//
//   - under a new id. The work queue remembers the old one for some minutes and would swallow it. The same attempt to put
//     back the same message has the same id, however often it is made;
//   - without its deadline: an answer is wanted, however late;
//   - to the queue on disk of its camera, also when it came from a live one. That is a ring of the newest few, in memory: a
//     second message from DLQ would evict the first and the camera's own, and what is evicted is in no stream any more.
//
// A message that is quarantined again is another message of DLQ, with a sequence of its own.
//
// # The books
//
// A message that leaves DLQ was quarantined, and LEDGER says so before it leaves: whoever quarantined it may have been
// killed before the report, and then DLQ was all that explained the frame. An answer that follows takes the place of
// that fate.
//
// # Bounds
//
// Listing reads headers only, whatever the payloads weigh, and with a Limit not many more than it returns.
package dlq

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

// Errors that mean "do something different".
var (
	// ErrGone means that DLQ does not hold the message any more, or never did.
	ErrGone = errors.New("it is not in DLQ: it was replayed or dropped, or is too old")
	// ErrNotReplayable means that the message can only be dropped.
	ErrNotReplayable = errors.New("it cannot be replayed")
	// ErrFull means that the stream takes no more at the moment. Nothing has changed.
	ErrFull = errors.New("the queue that it came from is full: try again when the workers have caught up")
)

// Entry is a quarantined message.
type Entry struct {
	Sequence uint64    `json:"sequence"` // its name for operators
	At       time.Time `json:"at"`       // when it was quarantined
	Stage    string    `json:"stage"`    // who quarantined it
	Camera   string    `json:"camera"`
	Frame    string    `json:"frame,omitempty"`
	Model    string    `json:"model,omitempty"`   // of a frame: all models that should have looked at it
	Version  string    `json:"version,omitempty"` // what handled it, such as a model and its version
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	Subject  string    `json:"subject"` // where it was taken from
	Bytes    int       `json:"bytes"`
	// OmittedBytes is the size of a payload that did not fit into DLQ.
	OmittedBytes int `json:"omitted_bytes,omitempty"`
	// Replayed says that it had been in DLQ before.
	Replayed bool `json:"replayed,omitempty"`

	// Header and Data are those of the message as the stage took it. Only Get fills them in.
	Header nats.Header `json:"-"`
	Data   []byte      `json:"-"`
}

// Filter chooses messages. The zero value chooses all.
type Filter struct {
	Stage  string
	Camera string
	Since  time.Time
	// Limit is how many List returns at most: the newest. 0 is no limit.
	Limit int
	// Through is the last sequence, 0 the last there is.
	Through uint64
}

// Validate reports names that cannot be any stage's or camera's.
func (f Filter) Validate() error {
	for _, name := range []string{f.Stage, f.Camera} {
		if name == "" {
			continue
		}
		if err := streams.CheckToken(name); err != nil {
			return err
		}
	}
	if f.Limit < 0 {
		return fmt.Errorf("limit %d is negative", f.Limit)
	}
	return nil
}

func (f Filter) subject() string {
	wild := func(name string) string {
		if name == "" {
			return "*"
		}
		return name
	}
	return streams.DLQSubject(wild(f.Stage), wild(f.Camera))
}

// quarantineHeader begins the headers that a stage adds to a copy in DLQ.
const quarantineHeader = "Sightline-Quarantine-"

// entry reads a message's headers. What is missing stays empty: whatever got into DLQ must be visible.
func entry(subject string, seq uint64, at time.Time, h nats.Header) Entry {
	get := func(key string) string {
		if v := h[key]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	number := func(key string) int {
		n, _ := strconv.Atoi(get(key))
		return n
	}
	e := Entry{
		Sequence: seq, At: at.UTC(), Camera: streams.LastToken(subject), Stage: get(stage.HeaderStage), Frame: get(frame.HeaderName),
		Model: get(frame.HeaderModel), Version: get(stage.HeaderVersion), Reason: get(stage.HeaderReason),
		Attempts: number(stage.HeaderAttempts), Subject: get(stage.HeaderSubject), OmittedBytes: number(stage.HeaderOmitted),
		Replayed: get(stage.HeaderReplay) != "",
	}
	if e.Model == "" {
		e.Model = get(frame.HeaderModels)
	}
	if parts := strings.Split(subject, "."); e.Stage == "" && len(parts) > 1 {
		e.Stage = parts[1]
	}
	return e
}

// own are the headers that a message had before it was quarantined. What begins with Nats- is the broker's: about the copy
// in DLQ, and how it was handed out.
func own(h nats.Header) nats.Header {
	out := make(nats.Header, len(h))
	for k, v := range h {
		if !strings.HasPrefix(k, quarantineHeader) && !strings.HasPrefix(k, "Nats-") {
			out[k] = v
		}
	}
	return out
}
