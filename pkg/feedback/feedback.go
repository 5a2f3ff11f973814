// Package feedback is how applications and people tell what was really in a frame: labels, or verdicts on the detections of
// an answer. The drift-monitor makes precision, recall and calibration of it, and fairness.
//
// # What to send
//
// One [Feedback] per frame and model, on feedback.<camera>. Labels say everything that is in the picture: with them recall
// is known, and an empty list says that nothing was there. Verdicts say of single detections whether they were right; what
// the model did not find they do not tell. Both may be given.
//
// # Delivery
//
// The id is made of the frame, the model and who says it, so the same feedback sent twice within a few minutes is stored
// once. Of several that say something about the same frame the last counts. Feedback may come late: answers are remembered for 24 hours.
package feedback

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// Schema is the published JSON Schema of a message on feedback.<camera>.
//
//go:embed feedback.schema.json
var Schema []byte

// SchemaID is the value of Feedback.Schema.
const SchemaID = "sightline.feedback.v1"

const (
	maxBoxes  = 1000
	maxSlices = 8
	maxText   = 63
)

// Feedback is one message on feedback.<camera>.
type Feedback struct {
	Schema string `json:"schema"`
	// Frame is <camera>/<epoch>/<seq>, as the answer has it.
	Frame   string `json:"frame"`
	Model   string `json:"model"`
	Version string `json:"version,omitempty"` // of the answer; "" is whichever answered
	// By says who tells: the name of a person, an application, a data set.
	By string    `json:"by"`
	At time.Time `json:"at"`
	// Labels are all objects in the picture; an empty list says that there are none. nil: the picture was not labelled.
	Labels []Label `json:"labels,omitzero"`
	// Verdicts are about detections of the answer.
	Verdicts []Verdict `json:"verdicts,omitempty"`
	// Slices are further properties of the picture by which fairness shall be looked at, such as {"weather": "rain"}.
	Slices map[string]string `json:"slices,omitempty"`
}

// Label is one object that is really there.
type Label struct {
	Class string          `json:"class"`
	Box   predictions.Box `json:"box"` // in pixels of the picture as the camera sent it
	// Slices are further properties of the object.
	Slices map[string]string `json:"slices,omitempty"`
}

// Verdict says whether a detection was right.
type Verdict struct {
	Detection int  `json:"detection"` // index in the answer's list, from 0
	Correct   bool `json:"correct"`
}

// Camera is the camera whose frame it is about.
func (f Feedback) Camera() string {
	name, err := frame.ParseName(f.Frame)
	if err != nil {
		return ""
	}
	return name.Camera
}

// ID identifies the feedback: sent again, it is stored once.
func (f Feedback) ID() string { return f.Frame + "/" + f.Model + "@" + f.Version + "/" + f.By }

// Decode reads a message and refuses what the schema refuses, properties that it does not know included: a misspelt list
// of labels must not read as none.
func Decode(data []byte) (Feedback, error) {
	var f Feedback
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("feedback: %w", err)
	}
	if d.More() {
		return f, errors.New("feedback: more than one value")
	}
	return f, f.Validate()
}

// Validate reports the first thing that is wrong.
func (f Feedback) Validate() error {
	if err := f.validate(); err != nil {
		return fmt.Errorf("feedback on %q: %w", f.Frame, err)
	}
	return nil
}

func (f Feedback) validate() error {
	if f.Schema != SchemaID {
		return fmt.Errorf("schema %q, want %q", f.Schema, SchemaID)
	}
	if _, err := frame.ParseName(f.Frame); err != nil {
		return err
	}
	if err := streams.CheckToken(f.Model); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	switch {
	case len(f.Version) > maxText:
		return fmt.Errorf("version: %d characters, at most %d", len(f.Version), maxText)
	case !text.MatchString(f.By):
		return fmt.Errorf("by is %q: say who tells, in 1 to %d printable characters", f.By, maxText)
	case f.At.IsZero():
		return errors.New("no time (at)")
	case f.Labels == nil && len(f.Verdicts) == 0:
		return errors.New("neither labels nor verdicts: it says nothing")
	case len(f.Labels) > maxBoxes || len(f.Verdicts) > maxBoxes:
		return fmt.Errorf("%d labels and %d verdicts, at most %d of each", len(f.Labels), len(f.Verdicts), maxBoxes)
	}
	if err := validateSlices(f.Slices); err != nil {
		return err
	}
	for i, l := range f.Labels {
		if err := l.validate(); err != nil {
			return fmt.Errorf("label %d: %w", i, err)
		}
	}
	seen := map[int]bool{}
	for i, v := range f.Verdicts {
		if v.Detection < 0 || v.Detection >= maxBoxes || seen[v.Detection] {
			return fmt.Errorf("verdict %d: detection %d is not an index that comes once", i, v.Detection)
		}
		seen[v.Detection] = true
	}
	return nil
}

func (l Label) validate() error {
	if !text.MatchString(l.Class) {
		return fmt.Errorf("class %q", l.Class)
	}
	for _, v := range l.Box {
		if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) > 1e6 {
			return fmt.Errorf("box %v", [4]float64(l.Box))
		}
	}
	if !(l.Box[0] < l.Box[2] && l.Box[1] < l.Box[3]) {
		return fmt.Errorf("box %v is not x1, y1, x2, y2", [4]float64(l.Box))
	}
	return validateSlices(l.Slices)
}

// text is printable and short; the names of slices end in metrics, so they are stricter.
var (
	text      = regexp.MustCompile(`^[^\x00-\x1f\x7f-\x9f]{1,63}$`)
	sliceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
)

func validateSlices(slices map[string]string) error {
	if len(slices) > maxSlices {
		return fmt.Errorf("%d slices, at most %d", len(slices), maxSlices)
	}
	for name, value := range slices {
		if !sliceName.MatchString(name) || !text.MatchString(value) {
			return fmt.Errorf("slice %q: %q: a name is 1 to 32 of a-z, 0-9 and _, a value 1 to %d printable characters", name, value, maxText)
		}
	}
	return nil
}

// Publisher is the part of JetStream that Send needs.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Send publishes feedback and returns when it is stored. Schema, and At where it is zero, are filled in.
func Send(ctx context.Context, js Publisher, f Feedback) error {
	f.Schema = SchemaID
	if f.At.IsZero() {
		f.At = time.Now().UTC()
	}
	if err := f.Validate(); err != nil {
		return err
	}
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("feedback: %w", err)
	}
	msg := nats.NewMsg(streams.FeedbackSubject(f.Camera()))
	msg.Data = data
	msg.Header.Set(jetstream.MsgIDHeader, f.ID())
	if _, err := js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("publish %s: %w", msg.Subject, err)
	}
	return nil
}
