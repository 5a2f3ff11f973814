// Package frame is the envelope of a frame on its way through the system: its name, its facts and how they are
// written into message headers.
//
// A frame message is a JPEG, a tensor message is uint8 pixels; everything else about them is in headers, so that
// a stage can decide (too old? which models?) without touching a pixel. Decoding refuses anything that the
// encoder would not have written; it never guesses.
package frame

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sightline-dev/sightline/streams"
)

// Header names. Trace context travels beside them under its own standard names.
const (
	HeaderName     = "Sightline-Frame"
	HeaderCaptured = "Sightline-Captured"
	HeaderDeadline = "Sightline-Deadline"
	HeaderSource   = "Sightline-Source-Size"
	HeaderROI      = "Sightline-ROI"
	HeaderModels   = "Sightline-Models"
	HeaderTimings  = "Sightline-Timings"
	HeaderStatus   = "Sightline-Status"
	HeaderMotion   = "Sightline-Temporal-Difference"
)

// HeaderTrace is the W3C trace context, under its standard name.
const HeaderTrace = "Traceparent"

// maxModels bounds how many models one camera may feed.
const maxModels = 16

// ROI is the region of interest: left, top, right, bottom as shares of the source picture, 0 to 1.
type ROI [4]float64

// Whole reports whether the region is the whole picture (the zero value is).
func (r ROI) Whole() bool { return r == ROI{} || r == ROI{0, 0, 1, 1} }

// Validate reports a region that is empty or not inside the picture.
func (r ROI) Validate() error {
	if r.Whole() {
		return nil
	}
	for _, v := range r {
		if math.IsNaN(v) || v < 0 || v > 1 {
			return fmt.Errorf("roi %v: every value is a share of the picture, 0 to 1", [4]float64(r))
		}
	}
	if r[2]-r[0] < 0.01 || r[3]-r[1] < 0.01 {
		return fmt.Errorf("roi %v: want [left, top, right, bottom] with left < right and top < bottom", [4]float64(r))
	}
	return nil
}

// Facts are what is known of a frame besides its pixels.
type Facts struct {
	Name     Name
	Captured time.Time // when the last byte of the picture reached ingest, wall clock
	Deadline time.Time // an answer after this is of no use; zero for every_frame cameras
	SourceW  int       // size of the picture as the camera sent it, px
	SourceH  int
	ROI      ROI
	Models   []string // who shall look at it
	Status   string   // "ok" or "degraded" (damaged picture, lowered sampling)
	Timings  Timings
	// TemporalDifference is the mean absolute difference of luma to the captured picture before, 0 to 255; nil when there
	// was none. A thousandth is the least that is told.
	TemporalDifference *float64
	Trace              string // W3C traceparent, "" when not sampled
}

// Timings are durations by stage, in order: {"ingest", 2ms}, {"preprocess.queue", 1ms} ...
type Timings []Timing

// Timing is how long one stage took.
type Timing struct {
	Stage string
	Took  time.Duration
}

// With returns a copy with one more timing; the receiver may be shared.
func (t Timings) With(stage string, took time.Duration) Timings {
	return append(slices.Clip(t), Timing{stage, took})
}

func (t Timings) encode() string {
	b := make([]byte, 0, 24*len(t))
	for i, x := range t {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, x.Stage...)
		b = append(b, '=')
		b = strconv.AppendInt(b, x.Took.Microseconds(), 10)
	}
	return string(b)
}

func decodeTimings(s string) (Timings, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, ",")
	if len(parts) > 64 {
		return nil, fmt.Errorf("%s: %d entries", HeaderTimings, len(parts))
	}
	out := make(Timings, len(parts))
	for i, p := range parts {
		stage, us, ok := strings.Cut(p, "=")
		v, err := parseInt(us)
		if !ok || err != nil || stage == "" || v > math.MaxInt64/1000 || v < math.MinInt64/1000 {
			return nil, fmt.Errorf("%s: %q is not stage=microseconds", HeaderTimings, p)
		}
		out[i] = Timing{stage, time.Duration(v) * time.Microsecond}
	}
	return out, nil
}

// Encode writes the facts into h. What h said of another frame does not survive.
func (f Facts) Encode(h nats.Header) {
	h[HeaderName] = []string{f.Name.String()}
	h[HeaderCaptured] = []string{strconv.FormatInt(f.Captured.UnixNano(), 10)}
	h[HeaderSource] = []string{strconv.Itoa(f.SourceW) + "x" + strconv.Itoa(f.SourceH)}
	h[HeaderModels] = []string{strings.Join(f.Models, ",")}
	var deadline, roi string
	if !f.Deadline.IsZero() {
		deadline = strconv.FormatInt(f.Deadline.UnixNano(), 10)
	}
	if !f.ROI.Whole() {
		roi = formatFloats(f.ROI[:])
	}
	setOrDelete(h, HeaderDeadline, deadline)
	setOrDelete(h, HeaderROI, roi)
	setOrDelete(h, HeaderStatus, f.Status)
	setOrDelete(h, HeaderTimings, f.Timings.encode())
	setOrDelete(h, HeaderTrace, f.Trace)
	motion := ""
	if f.TemporalDifference != nil {
		motion = strconv.FormatFloat(*f.TemporalDifference, 'f', motionDigits, 64)
	}
	setOrDelete(h, HeaderMotion, motion)
}

const motionDigits = 3

func setOrDelete(h nats.Header, key, value string) {
	if value == "" {
		delete(h, key)
	} else {
		h[key] = []string{value}
	}
}

// Decode reads the facts back, or says what is wrong with them.
func Decode(h nats.Header) (Facts, error) {
	f, err := decodeFacts(h)
	if err == nil {
		f.Models, err = decodeModels(first(h, HeaderModels))
	}
	return f, err
}

// decodeFacts reads what frames and tensors have in common: everything but who shall look at it.
func decodeFacts(h nats.Header) (Facts, error) {
	var f Facts
	var err error
	if f.Name, err = ParseName(first(h, HeaderName)); err != nil {
		return f, err
	}
	captured, err := parseInt(first(h, HeaderCaptured))
	if err != nil || captured <= 0 {
		return f, fmt.Errorf("%s: %q is not nanoseconds since 1970", HeaderCaptured, first(h, HeaderCaptured))
	}
	f.Captured = time.Unix(0, captured)
	if s := first(h, HeaderDeadline); s != "" {
		deadline, err := parseInt(s)
		if err != nil || deadline <= 0 {
			return f, fmt.Errorf("%s: %q is not nanoseconds since 1970", HeaderDeadline, s)
		}
		f.Deadline = time.Unix(0, deadline)
	}
	if f.SourceW, f.SourceH, err = decodeSize(first(h, HeaderSource)); err != nil {
		return f, fmt.Errorf("%s: %w", HeaderSource, err)
	}
	if s := first(h, HeaderROI); s != "" {
		if err := parseFloats(s, f.ROI[:]); err != nil {
			return f, fmt.Errorf("%s: %w", HeaderROI, err)
		}
		if err := f.ROI.Validate(); err != nil {
			return f, fmt.Errorf("%s: %w", HeaderROI, err)
		}
		if f.ROI.Whole() {
			return f, fmt.Errorf("%s: %q is the whole picture, which is not said", HeaderROI, s)
		}
	}
	if f.Timings, err = decodeTimings(first(h, HeaderTimings)); err != nil {
		return f, err
	}
	f.Status, f.Trace = first(h, HeaderStatus), first(h, HeaderTrace)
	if s := first(h, HeaderMotion); s != "" {
		v, err := parseFloatAs(s, 'f', motionDigits)
		if err != nil || v > 255 || math.Signbit(v) {
			return f, fmt.Errorf("%s: %q is not 0 to 255 with %d digits", HeaderMotion, s, motionDigits)
		}
		f.TemporalDifference = &v
	}
	return f, nil
}

func decodeModels(s string) ([]string, error) {
	if s == "" {
		return nil, errors.New(HeaderModels + ": empty: a frame that nobody looks at should not have been sent")
	}
	models := strings.Split(s, ",")
	if len(models) > maxModels {
		return nil, fmt.Errorf("%s: %d models, at most %d", HeaderModels, len(models), maxModels)
	}
	for _, m := range models {
		if err := streams.CheckToken(m); err != nil {
			return nil, fmt.Errorf("%s: %w", HeaderModels, err)
		}
	}
	return models, nil
}

// maxSide bounds a picture: 16k is beyond any camera, and its square still fits an int.
const maxSide = 16384

func decodeSize(s string) (w, h int, err error) {
	ws, hs, ok := strings.Cut(s, "x")
	wide, err1 := parseInt(ws)
	high, err2 := parseInt(hs)
	if !ok || err1 != nil || err2 != nil || wide < 1 || high < 1 || wide > maxSide || high > maxSide {
		return 0, 0, fmt.Errorf("%q is not <width>x<height> in pixels, 1 to %d", s, maxSide)
	}
	return int(wide), int(high), nil
}

// parseInt accepts a number only as strconv writes it.
func parseInt(s string) (int64, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err == nil && strconv.FormatInt(v, 10) != s {
		err = strconv.ErrSyntax
	}
	return v, err
}

// first is Get without canonicalisation: our keys are written as they are read.
func first(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func formatFloats(v []float64) string {
	b := make([]byte, 0, 16*len(v))
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, x, 'g', -1, 64)
	}
	return string(b)
}

// parseFloats is the inverse of formatFloats.
func parseFloats(s string, dst []float64) error { return parseFloatsAs(s, dst, 'g', -1) }

// parseFloatsAs accepts numbers only as strconv writes them in a format.
func parseFloatsAs(s string, dst []float64, format byte, precision int) error {
	parts := strings.Split(s, ",")
	if len(parts) != len(dst) {
		return fmt.Errorf("%q: want %d numbers", s, len(dst))
	}
	for i, p := range parts {
		v, err := parseFloatAs(p, format, precision)
		if err != nil {
			return fmt.Errorf("%q: %w", s, err)
		}
		dst[i] = v
	}
	return nil
}

func parseFloatAs(s string, format byte, precision int) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is not a finite number", s)
	}
	if want := strconv.FormatFloat(v, format, precision, 64); want != s {
		return 0, fmt.Errorf("%q should be written %s", s, want)
	}
	return v, nil
}
