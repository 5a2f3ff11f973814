package model

import (
	"regexp"
	"time"
)

// A Layout is the order of a tensor's axes.
type Layout string

// The layouts a model's input may have.
const (
	NCHW Layout = "nchw"
	NHWC Layout = "nhwc"
)

// A Color is the order of a pixel's channels.
type Color string

// The colour orders a model's input may have.
const (
	RGB  Color = "rgb"
	BGR  Color = "bgr"
	Gray Color = "gray"
)

// Channels is the number of values in a pixel: 3, or 1 for [Gray].
func (c Color) Channels() int {
	if c == Gray {
		return 1
	}
	return 3
}

// A Resize is a way to bring a picture to the size of a model's input.
type Resize string

// The ways to bring a picture to the size of a model's input: [Stretch] ignores its proportions, [Letterbox] keeps them
// and pads.
const (
	Stretch   Resize = "stretch"
	Letterbox Resize = "letterbox"
)

// PerChannel holds one number for each channel, in the declared colour order. A gray input uses the first.
type PerChannel [3]float64

// All is the same number for every channel.
func All(v float64) PerChannel { return PerChannel{v, v, v} }

// A Declaration says how to use a model file. Its zero value is not usable: start from [Preset] or [Parse].
type Declaration struct {
	// Family selects the decoder of the outputs and the defaults of everything below.
	Family string `json:"family"`
	// Description is for people.
	Description string `json:"description,omitempty"`
	// Version pins one version of the repository; 0 takes the highest.
	Version int `json:"version,omitempty"`
	// MaxBatchSize is the most pictures in one run; 1 means no batching.
	MaxBatchSize int `json:"max_batch_size"`
	// MaxQueueDelayMicroseconds is how long a picture may wait for others to share its batch.
	MaxQueueDelayMicroseconds int `json:"max_queue_delay_microseconds,omitempty"`
	// Input describes the one input.
	Input Input `json:"input"`
	// Output names the tensor of each role; an empty name is the file's only output. Roles depend on the family.
	Output map[string]string `json:"output"`
	// Classes are the names of the classes, by class number.
	Classes []string `json:"classes,omitempty"`
	// ScoreThreshold is the score that a detection must exceed.
	ScoreThreshold float64 `json:"score_threshold"`
	// IoUThreshold is the overlap above which the weaker of two boxes of one class is dropped.
	IoUThreshold float64 `json:"iou_threshold"`
}

// An Input describes the input of a model: pixel x (0 to 255) becomes (x - Mean) * Scale.
type Input struct {
	// Name is the tensor's name; empty is the file's only input.
	Name string `json:"name,omitempty"`
	// Width and Height are the input's size in pixels; 0 takes it from the file.
	Width  int `json:"width"`
	Height int `json:"height"`
	// Layout and Color may be empty, which takes them from the file's shape.
	Layout Layout `json:"layout,omitempty"`
	Color  Color  `json:"color,omitempty"`
	// Resize says how a picture is brought to Width x Height.
	Resize Resize `json:"resize"`
	// Pad is the value of every channel of a letterbox's bars.
	Pad uint8 `json:"pad"`
	// Scale and Mean normalise.
	Scale PerChannel `json:"scale"`
	Mean  PerChannel `json:"mean"`
}

// Bytes is the size of one picture at the model's input: Width x Height x channels.
func (in Input) Bytes() int { return in.Width * in.Height * in.Color.Channels() }

// Resolved says whether the input needs nothing more from the file.
func (in Input) Resolved() bool {
	return in.Width > 0 && in.Height > 0 && in.Layout != "" && in.Color != ""
}

// Plan plans how the region roi of a picture becomes this input; see [PlanResize].
func (in Input) Plan(sourceWidth, sourceHeight int, roi Region) (Plan, error) {
	return PlanResize(sourceWidth, sourceHeight, roi, in.Width, in.Height, in.Resize)
}

// MaxQueueDelay is [Declaration.MaxQueueDelayMicroseconds] as a duration.
func (d Declaration) MaxQueueDelay() time.Duration {
	return time.Duration(d.MaxQueueDelayMicroseconds) * time.Microsecond
}

var nameToken = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// ValidName says whether name can name a model: it is also a token of subjects, metric labels and directories.
func ValidName(name string) bool { return nameToken.MatchString(name) }
