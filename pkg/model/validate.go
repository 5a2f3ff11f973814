package model

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The bounds of a declaration.
const (
	maxBatchSize  = 1024
	maxQueueDelay = 10_000_000 // microseconds
	maxSide       = 8192
	maxClasses    = 100_000
)

// A Problem is one thing that is wrong with a declaration.
type Problem struct {
	// Line is where, in a file; 0 where there is no file.
	Line int
	// Path is the key, as in "input.scale".
	Path string
	// Text says what is wrong and what to write instead.
	Text string
}

// An Error is everything that is wrong with a declaration.
type Error struct {
	// File is the file's name, or empty.
	File     string
	Problems []Problem
}

// Error is one line for each problem: file:line: key: what is wrong; what to write instead.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		var b strings.Builder
		if e.File != "" {
			b.WriteString(e.File + ":")
		}
		if p.Line > 0 {
			b.WriteString(strconv.Itoa(p.Line) + ":")
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if p.Path != "" {
			b.WriteString(p.Path + ": ")
		}
		b.WriteString(p.Text)
		lines = append(lines, b.String())
	}
	return strings.Join(lines, "\n")
}

// Validate checks a declaration by itself, without its file, and reports all problems as one [*Error].
func (d Declaration) Validate() error {
	if problems := d.problems(); len(problems) > 0 {
		return &Error{Problems: problems}
	}
	return nil
}

func (d Declaration) problems() []Problem {
	var c checker
	f, known := families()[d.Family]
	switch {
	case d.Family == "":
		c.add("family", "is missing: write one of %s", list(Families()))
	case !known:
		c.add("family", "%q is not a family: write one of %s", d.Family, list(Families()))
	default:
		c.roles(d.Output, f.roles)
		c.classes(d.Classes, f.classes)
	}
	c.within("version", d.Version, 0, math.MaxInt32, "a positive version pins one, 0 takes the highest")
	c.within("max_batch_size", d.MaxBatchSize, 1, maxBatchSize, "1 means no batching")
	c.within("max_queue_delay_microseconds", d.MaxQueueDelayMicroseconds, 0, maxQueueDelay, "0 does not wait")
	c.input(d.Input)
	c.fraction("score_threshold", d.ScoreThreshold)
	c.fraction("iou_threshold", d.IoUThreshold)
	return c.problems
}

type checker struct{ problems []Problem }

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) within(path string, v, low, high int, why string) {
	if v < low || v > high {
		c.add(path, "%d is out of range: write %d to %d (%s)", v, low, high, why)
	}
}

func (c *checker) fraction(path string, v float64) {
	if !(v >= 0 && v <= 1) { // also refuses NaN
		c.add(path, "%v is out of range: write 0 to 1", v)
	}
}

func (c *checker) input(in Input) {
	const why = "0 takes it from the file"
	c.within("input.width", in.Width, 0, maxSide, why)
	c.within("input.height", in.Height, 0, maxSide, why)
	oneOf(c, "input.layout", in.Layout, "", NCHW, NHWC)
	oneOf(c, "input.color", in.Color, "", RGB, BGR, Gray)
	oneOf(c, "input.resize", in.Resize, Stretch, Letterbox)
	for _, v := range in.Scale {
		if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			c.add("input.scale", "%v loses the picture: write 1 for 0..255, 0.00392157 for 0..1", v)
			break
		}
	}
	for _, v := range in.Mean {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			c.add("input.mean", "%v is not a number: write 0 for none, it is on the scale of 0..255", v)
			break
		}
	}
}

func oneOf[T ~string](c *checker, path string, v T, allowed ...T) {
	if slices.Contains(allowed, v) {
		return
	}
	words := make([]string, 0, len(allowed))
	for _, a := range allowed {
		if a != "" {
			words = append(words, string(a))
		}
	}
	c.add(path, "%q is unknown: write %s", v, strings.Join(words, " or "))
}

func (c *checker) roles(output map[string]string, alternatives [][]string) {
	have := slices.Sorted(maps.Keys(output))
	if slices.ContainsFunc(alternatives, func(roles []string) bool { return slices.Equal(roles, have) }) {
		return
	}
	want := make([]string, len(alternatives))
	for i, roles := range alternatives {
		want[i] = strings.Join(roles, " and ")
	}
	found := "none"
	if len(have) > 0 {
		found = strings.Join(have, ", ")
	}
	c.add("output", "roles are %s: this family has %s", found, strings.Join(want, ", or "))
}

func (c *checker) classes(names []string, want int) {
	switch {
	case want > 0 && len(names) != want:
		c.add("classes", "%d names: this family has exactly %d", len(names), want)
	case want == 0 && len(names) == 0:
		c.add("classes", "are missing: name every class of the model, in order")
	case len(names) > maxClasses:
		c.add("classes", "%d names: more than %d is not supported", len(names), maxClasses)
	}
	first := make(map[string]int, len(names))
	for i, name := range names {
		if name == "" || strings.TrimSpace(name) != name || strings.ContainsAny(name, "\r\n\t\x00") {
			c.add("classes", "name %d is %q: write a word without blanks around it", i, name)
			return
		}
		if j, ok := first[name]; ok {
			c.add("classes", "names %d and %d are both %q: make them differ", j, i, name)
			return
		}
		first[name] = i
	}
}

// list is "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func sortByPath(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return problems
}
