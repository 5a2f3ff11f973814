// Package drift is what the drift-monitor says about cameras and models, and how others read it.
//
// # What is said
//
// For every camera and model there is a [Status]: whether what the camera shows and what the model answers is still what
// they showed and answered when the model was promoted. For every camera there is an [Integrity]: faults of the camera
// itself, which say nothing of the model and everything about whether its answers mean anything. For every model there is a
// [Fairness]. All of it is in the bucket DRIFT, under keys of its own kind; what is no longer watched is deleted there.
//
// # Who may write
//
// Only the drift-monitor's leader. It puts its fencing token into everything, so that a leader that was stopped for a while
// does not overrule its successor: see [Put].
package drift

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

// State is how a camera's pictures and a model's answers to them compare with their reference.
type State string

// The states. DataDrift alone harms nothing: the world may have changed and the model may cope. Only SuspectedLoss may have
// consequences.
const (
	OK            State = "ok"
	DataDrift     State = "data_drift"
	SuspectedLoss State = "suspected_loss"
	NotEnoughData State = "not_enough_data"
)

// States are all states; their positions are the values of the metric sightline_drift_state.
func States() []State { return []State{OK, DataDrift, SuspectedLoss, NotEnoughData} }

// Number is the state's value in metrics; -1 if it is none.
func (s State) Number() int { return slices.Index(States(), s) }

// Fault is something that is wrong with a camera.
type Fault string

// The faults.
const (
	Frozen    Fault = "frozen"    // the same picture again and again
	Black     Fault = "black"     // no light, or no signal
	Covered   Fault = "covered"   // something is before the lens: a picture without detail
	Defocused Fault = "defocused" // far less sharp than it was
	Rotated   Fault = "rotated"   // upside down
	Flipped   Fault = "flipped"   // mirrored
	Shifted   Fault = "shifted"   // it looks elsewhere
	Clock     Fault = "clock"     // its clock is wrong or runs at another pace
	FPS       Fault = "fps"       // it sends another number of pictures than it announces
)

// Faults are all faults.
func Faults() []Fault {
	return []Fault{Frozen, Black, Covered, Defocused, Rotated, Flipped, Shifted, Clock, FPS}
}

// Blinds reports whether nobody can tell what is in view while the fault lasts.
func (f Fault) Blinds() bool { return f == Frozen || f == Black || f == Covered }

// Kinds of records in the bucket DRIFT.
const (
	kindStatus    = "status"
	kindIntegrity = "integrity"
	kindFairness  = "fairness"
)

// Status is what is known of one camera and model.
type Status struct {
	Kind    string    `json:"kind"`
	Camera  string    `json:"camera"`
	Model   string    `json:"model"`
	Version string    `json:"version,omitempty"` // of the model, whose answers were looked at
	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	At      time.Time `json:"at"` // when it was last looked at, by the pictures' clock
	// Cause is the feature that decided, and why in one word where it is not one: "no_reference", "too_few".
	Cause    string    `json:"cause,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Features []Feature `json:"features,omitempty"`
	// EffectiveSamples is how many independent pictures the last window comes to.
	EffectiveSamples float64    `json:"effective_samples"`
	Reference        *Reference `json:"reference,omitempty"`
	Quality          *Quality   `json:"quality,omitempty"`
	Token            uint64     `json:"token"` // fencing token of the leader that wrote it
}

// Feature is one figure compared with its reference by one test.
type Feature struct {
	Name      string  `json:"name"`
	Test      string  `json:"test"`
	Score     float64 `json:"score"`
	Threshold float64 `json:"threshold"`
}

// Over reports whether the feature is beyond its threshold.
func (f Feature) Over() bool { return f.Score > f.Threshold }

// Reference names what a status was held against.
type Reference struct {
	Version string    `json:"version"` // of the model
	Made    time.Time `json:"made"`
	Hour    string    `json:"hour,omitempty"` // the time of day that it stands for; "" is all day
	Frames  int       `json:"frames"`
}

// Sources of an estimate.
const (
	FromLabels = "labels" // somebody said what was really there
	FromScores = "scores" // from calibrated scores alone: what is missed is not known
)

// Estimate is a figure with what is known of its uncertainty.
type Estimate struct {
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Count  int     `json:"count"` // of what it was made from
	Source string  `json:"source"`
}

// Quality is how good answers are, as far as that is known. What is not known is absent.
type Quality struct {
	Precision []Estimate `json:"precision,omitempty"` // one of each source
	Recall    *Estimate  `json:"recall,omitempty"`    // from labels only
	AP50      *Estimate  `json:"ap50,omitempty"`      // from labels only
	// CalibrationError is the mean distance between score and share of true detections, from labels only.
	CalibrationError *Estimate `json:"calibration_error,omitempty"`
	// DetectionRateRatio is detections per picture, divided by what is usual at this hour.
	DetectionRateRatio *Estimate `json:"detection_rate_ratio,omitempty"`
}

// Integrity is what is wrong with one camera.
type Integrity struct {
	Kind   string    `json:"kind"`
	Camera string    `json:"camera"`
	Faults []Raised  `json:"faults"` // empty: none is known
	At     time.Time `json:"at"`
	Token  uint64    `json:"token"`
}

// Raised is a fault that lasts.
type Raised struct {
	Fault Fault     `json:"fault"`
	Since time.Time `json:"since"`
	// Evidence are the figures that decided, by name.
	Evidence map[string]float64 `json:"evidence,omitempty"`
}

// Has reports whether a fault lasts.
func (i Integrity) Has(f Fault) bool {
	return slices.ContainsFunc(i.Faults, func(r Raised) bool { return r.Fault == f })
}

// Fairness is how evenly a model serves slices of what it sees.
type Fairness struct {
	Kind   string    `json:"kind"`
	Model  string    `json:"model"`
	At     time.Time `json:"at"`
	Gaps   []Gap     `json:"gaps"`
	Token  uint64    `json:"token"`
	Detail string    `json:"detail,omitempty"`
}

// Gap compares the best and the worst slice by one metric.
type Gap struct {
	Metric  string  `json:"metric"`   // detection_rate, recall, precision, score
	SliceBy string  `json:"slice_by"` // camera, hour, light, size, region, or a declared label
	Gap     float64 `json:"gap"`      // best less worst
	GapLow  float64 `json:"gap_low"`  // of its interval
	GapHigh float64 `json:"gap_high"`
	Ratio   float64 `json:"ratio"`    // worst by best
	Best    Slice   `json:"best"`
	Worst   Slice   `json:"worst"`
	// Refused are slices with too little in them to judge.
	Refused []string `json:"refused,omitempty"`
}

// Slice is one slice and its figure.
type Slice struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"` // of its interval
	High  float64 `json:"high"`
	Count int     `json:"count"`
}

// Keys of the bucket. No camera and no model begins with an underscore.
const (
	integritySuffix = "_integrity"
	fairnessPrefix  = "_fairness"
)

// StatusKey is where the status of a camera and model is.
func StatusKey(camera, model string) string { return camera + "." + model }

// IntegrityKey is where the faults of a camera are.
func IntegrityKey(camera string) string { return camera + "." + integritySuffix }

// FairnessKey is where the fairness of a model is.
func FairnessKey(model string) string { return fairnessPrefix + "." + model }

// Record is one value of the bucket: exactly one of its members is not nil.
type Record struct {
	Status    *Status
	Integrity *Integrity
	Fairness  *Fairness
}

// Key is where the record belongs.
func (r Record) Key() string {
	switch {
	case r.Status != nil:
		return StatusKey(r.Status.Camera, r.Status.Model)
	case r.Integrity != nil:
		return IntegrityKey(r.Integrity.Camera)
	case r.Fairness != nil:
		return FairnessKey(r.Fairness.Model)
	}
	return ""
}

// Token is the fencing token of who wrote the record.
func (r Record) Token() uint64 {
	switch {
	case r.Status != nil:
		return r.Status.Token
	case r.Integrity != nil:
		return r.Integrity.Token
	case r.Fairness != nil:
		return r.Fairness.Token
	}
	return 0
}

// Encode writes the record.
func (r Record) Encode() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("drift: %w", err)
	}
	var v any
	switch {
	case r.Status != nil:
		s := *r.Status
		s.Kind, v = kindStatus, &s
	case r.Integrity != nil:
		i := *r.Integrity
		if i.Kind, v = kindIntegrity, &i; i.Faults == nil {
			i.Faults = []Raised{}
		}
	default:
		f := *r.Fairness
		if f.Kind, v = kindFairness, &f; f.Gaps == nil {
			f.Gaps = []Gap{}
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("drift: %w", err)
	}
	return data, nil
}

// Decode reads a record.
func Decode(data []byte) (Record, error) {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return Record{}, fmt.Errorf("drift: %w", err)
	}
	var r Record
	var v any
	switch kind.Kind {
	case kindStatus:
		r.Status = new(Status)
		v = r.Status
	case kindIntegrity:
		r.Integrity = new(Integrity)
		v = r.Integrity
	case kindFairness:
		r.Fairness = new(Fairness)
		v = r.Fairness
	default:
		return Record{}, fmt.Errorf("drift: kind %q", kind.Kind)
	}
	err := json.Unmarshal(data, v)
	if err == nil {
		err = r.validate()
	}
	if err != nil {
		return Record{}, fmt.Errorf("drift: %s: %w", kind.Kind, err)
	}
	return r, nil
}

func (r Record) validate() error {
	switch {
	case r.Status != nil:
		s := r.Status
		if s.State.Number() < 0 {
			return fmt.Errorf("state %q", s.State)
		}
		return errors.Join(streams.CheckToken(s.Camera), streams.CheckToken(s.Model))
	case r.Integrity != nil:
		for _, f := range r.Integrity.Faults {
			if !slices.Contains(Faults(), f.Fault) {
				return fmt.Errorf("fault %q", f.Fault)
			}
		}
		return streams.CheckToken(r.Integrity.Camera)
	case r.Fairness != nil:
		return streams.CheckToken(r.Fairness.Model)
	}
	return errors.New("an empty record")
}
