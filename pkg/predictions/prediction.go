package predictions

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// Schema is the published JSON Schema of a message on predictions.<model>.<camera>.
//
//go:embed prediction.schema.json
var Schema []byte

// SchemaID is the value of Prediction.Schema.
const SchemaID = "sightline.prediction.v1"

// Kind tells an answer from the lack of one.
type Kind string

// KindPrediction is an answer, KindGap says that nobody could look.
const (
	KindPrediction Kind = "prediction"
	KindGap        Kind = "gap"
)

// Status says how far an answer can be trusted.
type Status string

// StatusOK: as configured. StatusDegraded: the picture was damaged, sampling lowered, or Reasons say why. StatusUnknown: gaps
// only.
const (
	StatusOK       Status = "ok"
	StatusDegraded Status = "degraded"
	StatusUnknown  Status = "unknown"
)

// Prediction is one message on predictions.<model>.<camera>.
type Prediction struct {
	Schema  string       `json:"schema"`
	Kind    Kind         `json:"kind"`
	Status  Status       `json:"status"`
	Camera  string       `json:"camera"`
	Model   string       `json:"model"`
	Version string       `json:"version,omitempty"`
	Lane    streams.Lane `json:"lane,omitempty"`

	// Frame is <camera>/<epoch>/<seq>.
	Frame       string    `json:"frame,omitempty"`
	CapturedAt  time.Time `json:"captured_at,omitzero"`
	PredictedAt time.Time `json:"predicted_at,omitzero"`
	Image       *Image    `json:"image,omitempty"`
	// Detections is never nil in an answer: an empty list means that nothing is in view. It is nil in a gap.
	Detections []Detection `json:"detections,omitzero"`
	// Reasons say why a degraded answer cannot be trusted as usual, sorted: a fault of the camera (frozen, black, covered, ...),
	// or suspected_loss of the model's accuracy there. See [Prediction.Blind].
	Reasons []string `json:"reasons,omitempty"`
	// Classes are the scores of a classification, best first.
	Classes   []Class            `json:"classes,omitempty"`
	Quality   *Quality           `json:"quality,omitempty"`
	TimingsMS map[string]float64 `json:"timings_ms,omitempty"`
	BatchSize int                `json:"batch_size,omitempty"`
	Attempt   int                `json:"attempt,omitempty"`

	Gap *Gap `json:"gap,omitempty"`
}

// Image is the size of the picture as the camera sent it, in pixels.
type Image struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// Detection is one object.
type Detection struct {
	Class   string  `json:"class"`
	ClassID int     `json:"class_id"`
	Score   float64 `json:"score"`
	Box     Box     `json:"box"`
}

// Box is x1, y1, x2, y2 in pixels of Image, x to the right, y down.
type Box [4]float64

// UnmarshalJSON accepts four numbers; a plain array would take any count and fill up with zeros.
func (b *Box) UnmarshalJSON(data []byte) error {
	var v []float64
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("box: %w", err)
	}
	if len(v) != len(b) {
		return fmt.Errorf("box: %d numbers, want %d", len(v), len(b))
	}
	copy(b[:], v)
	return nil
}

// Class is one score of a classification.
type Class struct {
	Class   string  `json:"class"`
	ClassID int     `json:"class_id"`
	Score   float64 `json:"score"`
}

// Quality are figures of the picture; see the schema for their definitions.
type Quality struct {
	Luma       float64 `json:"luma"`
	Contrast   float64 `json:"contrast"`
	Sharpness  float64 `json:"sharpness"`
	Saturation float64 `json:"saturation"`
	// PerceptualHash is 64 bits as 16 lower-case hexadecimal digits.
	PerceptualHash string `json:"perceptual_hash"`
	// TemporalDifference to the captured picture before; nil when it is not known.
	TemporalDifference *float64 `json:"temporal_difference,omitempty"`
}

// Gap is a time in which the platform could not look.
type Gap struct {
	Reason string    `json:"reason"` // auth, refused, timeout, not_found, codec, stalled, ...
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"` // absent while it lasts
}

// Blind reports whether an empty list of detections does not mean that nothing is in view: nobody could look, or the camera
// shows an old picture, none, or what is before its lens.
func (p Prediction) Blind() bool {
	return p.Kind == KindGap || slices.ContainsFunc(p.Reasons, func(r string) bool { return r == "frozen" || r == "black" || r == "covered" })
}

// ID identifies the message for as long as anybody remembers it: publishers send it as Nats-Msg-Id, so that the
// same answer is stored once, and applications recognise by it what they have handled before.
func (p Prediction) ID() string {
	if p.Kind != KindGap || p.Gap == nil {
		return p.Frame + "/" + p.Model + "@" + p.Version
	}
	end := "open"
	if !p.Gap.To.IsZero() {
		end = strconv.FormatInt(p.Gap.To.UnixNano(), 10)
	}
	return p.Camera + "/gap/" + strconv.FormatInt(p.Gap.From.UnixNano(), 10) + "/" + end + "/" + p.Gap.Reason + "/" + p.Model + "@" + p.Version
}

// Decode reads a message and refuses what the schema refuses, with two exceptions: it ignores properties that it
// does not know, because a newer platform may send them, and reads an absent number as 0.
func Decode(data []byte) (Prediction, error) {
	var p Prediction
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("prediction: %w", err)
	}
	return p, p.Validate()
}
