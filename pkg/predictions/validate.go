package predictions

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

const maxSide = 16384 // px

var (
	reason = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	stage  = regexp.MustCompile(`^[a-z][a-z0-9_.-]*$`)
	hash   = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// Validate reports the first thing that the schema would refuse, and what a schema cannot say: that the frame is
// the camera's, that boxes are not inside out, and that gaps do not end before they begin.
func (p Prediction) Validate() error {
	err := p.validate()
	switch {
	case err == nil:
		return nil
	case p.Frame != "":
		return fmt.Errorf("prediction %s: %w", p.Frame, err)
	default:
		return fmt.Errorf("prediction of camera %q: %w", p.Camera, err)
	}
}

func (p Prediction) validate() error {
	if p.Schema != SchemaID {
		return fmt.Errorf("schema %q, want %q", p.Schema, SchemaID)
	}
	if err := streams.CheckToken(p.Camera); err != nil {
		return fmt.Errorf("camera: %w", err)
	}
	if err := streams.CheckToken(p.Model); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if len(p.Version) > 63 {
		return fmt.Errorf("version: %d characters, at most 63", len(p.Version))
	}
	switch p.Lane {
	case streams.LaneStable, streams.LaneCanary, streams.LaneShadow:
	case "":
		if p.Kind == KindPrediction {
			return errors.New("no lane")
		}
	default:
		return fmt.Errorf("lane %q", p.Lane)
	}
	switch p.Kind {
	case KindPrediction:
		return p.validateAnswer()
	case KindGap:
		return p.validateGap()
	default:
		return fmt.Errorf("kind %q", p.Kind)
	}
}

func (p Prediction) validateGap() error {
	answer := p.Frame != "" || !p.CapturedAt.IsZero() || !p.PredictedAt.IsZero() || p.Image != nil ||
		p.Detections != nil || p.Reasons != nil || p.Classes != nil || p.Quality != nil || p.TimingsMS != nil || p.BatchSize != 0 || p.Attempt != 0
	switch {
	case p.Status != StatusUnknown:
		return fmt.Errorf("gap with status %q, want %q", p.Status, StatusUnknown)
	case answer:
		return errors.New("gap with parts of an answer")
	case p.Gap == nil || p.Gap.From.IsZero():
		return errors.New("gap without its range")
	case !reason.MatchString(p.Gap.Reason):
		return fmt.Errorf("gap reason %q is not a word of a-z, 0-9 and _", p.Gap.Reason)
	case !p.Gap.To.IsZero() && p.Gap.To.Before(p.Gap.From):
		return errors.New("gap ends before it begins")
	}
	return nil
}

func (p Prediction) validateAnswer() error {
	name, err := frame.ParseName(p.Frame)
	switch {
	case err != nil:
		return err
	case name.Camera != p.Camera:
		return fmt.Errorf("frame of another camera than %q", p.Camera)
	case p.Status != StatusOK && p.Status != StatusDegraded:
		return fmt.Errorf("status %q, want %q or %q", p.Status, StatusOK, StatusDegraded)
	case p.Gap != nil:
		return errors.New("answer with a gap")
	case p.Detections == nil:
		return errors.New("no detections list: unknown is not nothing")
	case p.Version == "":
		return errors.New("no version")
	case p.CapturedAt.IsZero() || p.PredictedAt.IsZero():
		return errors.New("no captured_at or predicted_at")
	case p.Image == nil || p.Image.Width < 1 || p.Image.Height < 1 || p.Image.Width > maxSide || p.Image.Height > maxSide:
		return fmt.Errorf("image size is not 1 to %d px", maxSide)
	case len(p.Reasons) > 0 && p.Status != StatusDegraded:
		return fmt.Errorf("status %q with reasons, want %q", p.Status, StatusDegraded)
	case p.Reasons != nil && len(p.Reasons) == 0:
		return errors.New("empty reasons")
	case p.BatchSize < 0 || p.Attempt < 0:
		return errors.New("negative batch_size or attempt")
	}
	for i, r := range p.Reasons {
		if !reason.MatchString(r) || slices.Contains(p.Reasons[:i], r) {
			return fmt.Errorf("reason %q is not a word of a-z, 0-9 and _, or said twice", r)
		}
	}
	return errors.Join(p.validateObjects(), p.validateQuality(), p.validateTimings())
}

func (p Prediction) validateObjects() error {
	for i, d := range p.Detections {
		if err := validateClass(Class{d.Class, d.ClassID, d.Score}); err != nil {
			return fmt.Errorf("detection %d: %w", i, err)
		}
		if !(d.Box[0] <= d.Box[2] && d.Box[1] <= d.Box[3]) {
			return fmt.Errorf("detection %d: box %v is not x1, y1, x2, y2", i, d.Box)
		}
	}
	for i, c := range p.Classes {
		if err := validateClass(c); err != nil {
			return fmt.Errorf("class %d: %w", i, err)
		}
	}
	return nil
}

func validateClass(c Class) error {
	switch {
	case c.Class == "":
		return errors.New("class without a name")
	case c.ClassID < 0:
		return fmt.Errorf("class_id %d", c.ClassID)
	case !(c.Score >= 0 && c.Score <= 1):
		return fmt.Errorf("score %v is not 0 to 1", c.Score)
	}
	return nil
}

func (p Prediction) validateQuality() error {
	q := p.Quality
	switch {
	case q == nil:
		return nil
	case !(q.Luma >= 0 && q.Luma <= 255):
		return fmt.Errorf("luma %v is not 0 to 255", q.Luma)
	case !(q.Contrast >= 0 && q.Contrast <= 127.5):
		return fmt.Errorf("contrast %v is not 0 to 127.5", q.Contrast)
	case !(q.Sharpness >= 0):
		return fmt.Errorf("sharpness %v is negative", q.Sharpness)
	case !(q.Saturation >= 0 && q.Saturation <= 255):
		return fmt.Errorf("saturation %v is not 0 to 255", q.Saturation)
	case q.TemporalDifference != nil && !(*q.TemporalDifference >= 0 && *q.TemporalDifference <= 255):
		return fmt.Errorf("temporal_difference %v is not 0 to 255", *q.TemporalDifference)
	case !hash.MatchString(q.PerceptualHash):
		return fmt.Errorf("perceptual_hash %q is not 16 lower-case hexadecimal digits", q.PerceptualHash)
	}
	return nil
}

func (p Prediction) validateTimings() error {
	for name := range p.TimingsMS {
		if !stage.MatchString(name) {
			return fmt.Errorf("timings_ms: %q is not a stage", name)
		}
	}
	return nil
}
