package fairness

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/services/drift-monitor/quality"
)

// Axes that are always looked at. Others are declared by labels.
const (
	Camera = "camera"
	Site   = "site"
	Hour   = "hour"
	Light  = "light"
	Size   = "size"
	Region = "region"
)

// Config bounds what is kept.
type Config struct {
	// Period is the time after which counts are moved to the past, and those of the past forgotten.
	Period time.Duration
	// Thin is the least distance in time of two pictures of a camera that count for the detection rate.
	Thin time.Duration
	// Axes are the declared labels to slice by, 16 at most; others are ignored.
	Axes []string
}

// Default is a day, and pictures ten seconds apart.
func Default() Config { return Config{Period: 24 * time.Hour, Thin: 10 * time.Second} }

const (
	maxAxes    = 16
	maxSlices  = 4096 // of an axis
	maxCount   = 1 << 40
	other      = "other" // what is beyond maxSlices
	lightSteps = 64      // of luma, 4 levels each
)

// Validate reports what cannot be.
func (c Config) Validate() error {
	if c.Period <= 0 || c.Thin < 0 || len(c.Axes) > maxAxes {
		return fmt.Errorf("fairness: period %v, thinned to %v, %d declared axes (at most %d)", c.Period, c.Thin, len(c.Axes), maxAxes)
	}
	for _, a := range c.Axes {
		switch a {
		case Camera, Site, Hour, Light, Size, Region, "":
			return fmt.Errorf("fairness: axis %q cannot be declared", a)
		}
	}
	return nil
}

// A Picture is one picture with a model's answers.
type Picture struct {
	At            time.Time
	Camera, Site  string // Site may be empty
	Width, Height float64
	Luma          float64 // 0 to 255; negative when not known
	// Hour of the day where the camera is; negative when not known.
	Hour    int
	Labels  map[string]string // declared
	Answers []quality.Answer
	// Objects are all that is really there; Labelled says that they are known.
	Objects  []quality.Object
	Labelled bool
	// ObjectLabels are further declared labels of single objects, by index; may be shorter than Objects.
	ObjectLabels []map[string]string
}

// A tally is what was counted of one slice.
type tally struct {
	Found    int `json:"f,omitempty"` // objects
	Objects  int `json:"o,omitempty"`
	Right    int `json:"r,omitempty"` // answers
	Answers  int `json:"a,omitempty"`
	Seen     int `json:"s,omitempty"` // pictures with a detection
	Pictures int `json:"p,omitempty"`
}

func (t *tally) merge(o tally) {
	t.Found += o.Found
	t.Objects += o.Objects
	t.Right += o.Right
	t.Answers += o.Answers
	t.Seen += o.Seen
	t.Pictures += o.Pictures
}

func (t tally) validate() error {
	for _, x := range [][2]int{{t.Found, t.Objects}, {t.Right, t.Answers}, {t.Seen, t.Pictures}} {
		if x[0] < 0 || x[0] > x[1] || x[1] > maxCount {
			return fmt.Errorf("%d of %d", x[0], x[1])
		}
	}
	return nil
}

// counts are tallies by axis and slice, light by luma.
type counts struct {
	Axes  map[string]map[string]tally `json:"axes"`
	Light [lightSteps]tally           `json:"light"`
}

func (c *counts) add(axis, slice string, t tally) {
	if slice == "" {
		return
	}
	if c.Axes == nil {
		c.Axes = map[string]map[string]tally{}
	}
	of := c.Axes[axis]
	if of == nil {
		of = map[string]tally{}
		c.Axes[axis] = of
	}
	if _, known := of[slice]; !known && len(of) >= maxSlices {
		slice = other
	}
	have := of[slice]
	have.merge(t)
	of[slice] = have
}

func (c *counts) light(luma float64, t tally) {
	if luma >= 0 {
		c.Light[min(int(luma*lightSteps/256), lightSteps-1)].merge(t)
	}
}

// Counts are what a model's answers come to, by slice, in bounded memory. It is for one goroutine.
type Counts struct {
	cfg Config
	s   stored
}

type stored struct {
	Began time.Time            `json:"began"` // the present period
	Now   counts               `json:"now"`
	Past  counts               `json:"past"`
	Last  map[string]time.Time `json:"last"` // picture of each camera that counted for the detection rate
}

// New counts from nothing.
func New(cfg Config) (*Counts, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Counts{cfg: cfg, s: stored{Last: map[string]time.Time{}}}, nil
}

// Add counts a picture.
func (c *Counts) Add(p *Picture) {
	c.turn(p.At)
	where := p.slices(c.cfg.Axes)
	if last, ok := c.s.Last[p.Camera]; !ok || p.At.Sub(last) >= c.cfg.Thin {
		if ok || len(c.s.Last) < maxSlices {
			c.s.Last[p.Camera] = p.At
		}
		t := tally{Pictures: 1}
		if len(p.Answers) > 0 {
			t.Seen = 1
		}
		c.everywhere(where, p.Luma, t)
	}
	if p.Labelled {
		c.labelled(p, where)
	}
}

// turn begins another period when the present one is over.
func (c *Counts) turn(at time.Time) {
	switch age := at.Sub(c.s.Began); {
	case c.s.Began.IsZero():
		c.s.Began = at
	case age >= 2*c.cfg.Period:
		c.s.Past, c.s.Now, c.s.Began = counts{}, counts{}, at
	case age >= c.cfg.Period:
		c.s.Past, c.s.Now, c.s.Began = c.s.Now, counts{}, c.s.Began.Add(c.cfg.Period)
	}
}

type slice struct{ axis, name string }

// slices are those that the whole picture belongs to, light excepted.
func (p *Picture) slices(declared []string) []slice {
	out := []slice{{Camera, p.Camera}, {Site, p.Site}}
	if p.Hour >= 0 && p.Hour < 24 {
		out = append(out, slice{Hour, fmt.Sprintf("%02d", p.Hour)})
	}
	for _, a := range declared {
		out = append(out, slice{a, p.Labels[a]})
	}
	return out
}

func (c *Counts) everywhere(where []slice, luma float64, t tally) {
	for _, s := range where {
		c.s.Now.add(s.axis, s.name, t)
	}
	c.s.Now.light(luma, t)
}

func (c *Counts) labelled(p *Picture, where []slice) {
	m := quality.Match(p.Objects, p.Answers)
	for i, o := range p.Objects {
		t := tally{Objects: 1}
		if m.Found[i] {
			t.Found = 1
		}
		c.everywhere(where, p.Luma, t)
		c.ofBox(p, o.Box, t)
		if i < len(p.ObjectLabels) {
			for _, a := range c.cfg.Axes {
				if v := p.ObjectLabels[i][a]; v != p.Labels[a] {
					c.s.Now.add(a, v, t)
				}
			}
		}
	}
	for i, a := range p.Answers {
		if !m.Counted[i] {
			continue
		}
		t := tally{Answers: 1}
		if m.Right[i] {
			t.Right = 1
		}
		c.everywhere(where, p.Luma, t)
		c.ofBox(p, a.Box, t)
	}
}

func (c *Counts) ofBox(p *Picture, b quality.Box, t tally) {
	c.s.Now.add(Size, SizeOf(b), t)
	c.s.Now.add(Region, RegionOf(b, p.Width, p.Height), t)
}

// SizeOf is small, medium or large, as COCO has it.
func SizeOf(b quality.Box) string {
	switch area := (b[2] - b[0]) * (b[3] - b[1]); {
	case area < 32*32:
		return "small"
	case area < 96*96:
		return "medium"
	}
	return "large"
}

// RegionOf is the third across and down of a picture that a box's centre is in, such as top-left; empty when the size of the
// picture is not known.
func RegionOf(b quality.Box, width, height float64) string {
	if !(width > 0 && height > 0) {
		return ""
	}
	third := func(v, of float64) int { return min(max(int(3*v/of), 0), 2) }
	across := [...]string{"left", "centre", "right"}
	down := [...]string{"top", "middle", "bottom"}
	return down[third((b[1]+b[3])/2, height)] + "-" + across[third((b[0]+b[2])/2, width)]
}

// Encode is all that was counted, as JSON.
func (c *Counts) Encode() ([]byte, error) { return json.Marshal(c.s) }

// Decode goes on counting from what Encode wrote, and refuses what it would not have written.
func Decode(cfg Config, data []byte) (*Counts, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &c.s); err != nil {
		return nil, fmt.Errorf("fairness: %w", err)
	}
	if c.s.Last == nil {
		c.s.Last = map[string]time.Time{}
	}
	if len(c.s.Last) > maxSlices {
		return nil, fmt.Errorf("fairness: %d cameras", len(c.s.Last))
	}
	return c, errors.Join(c.s.Now.validate(), c.s.Past.validate())
}

func (c *counts) validate() error {
	if len(c.Axes) > maxAxes+6 {
		return fmt.Errorf("fairness: %d axes", len(c.Axes))
	}
	for axis, of := range c.Axes {
		if len(of) > maxSlices+1 {
			return fmt.Errorf("fairness: %d slices by %s", len(of), axis)
		}
		for name, t := range of {
			if err := t.validate(); err != nil {
				return fmt.Errorf("fairness: %s %s: %w", axis, name, err)
			}
		}
	}
	for i, t := range c.Light {
		if err := t.validate(); err != nil {
			return fmt.Errorf("fairness: light %d: %w", i, err)
		}
	}
	return nil
}
