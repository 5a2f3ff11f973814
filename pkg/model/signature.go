package model

import (
	"fmt"
	"strconv"
	"strings"
)

// A Signature is what a model file says about its own inputs and outputs.
type Signature struct {
	Inputs  []Port `json:"inputs"`
	Outputs []Port `json:"outputs"`
}

// A Port is one input or output.
type Port struct {
	Name string `json:"name"`
	// Type is the element type as in float32, uint8, int64.
	Type string `json:"type"`
	// Shape has -1 for an axis of any length.
	Shape []int64 `json:"shape"`
}

// String is the port as messages show it: "images" float32 [?,3,240,320].
func (p Port) String() string {
	return strconv.Quote(p.Name) + " " + p.Type + " " + FormatShape(p.Shape)
}

// FormatShape writes a shape as messages show it, with ? for an axis of any length.
func FormatShape(shape []int64) string {
	parts := make([]string, len(shape))
	for i, n := range shape {
		parts[i] = "?"
		if n >= 0 {
			parts[i] = strconv.FormatInt(n, 10)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// FormatPorts writes ports as messages show them.
func FormatPorts(ports []Port) string {
	if len(ports) == 0 {
		return "none"
	}
	parts := make([]string, len(ports))
	for i, p := range ports {
		parts[i] = p.String()
	}
	return strings.Join(parts, ", ")
}

// Find returns the port with that name. An empty name finds the only port there is.
func Find(ports []Port, name string) (Port, bool) {
	if name == "" {
		if len(ports) == 1 {
			return ports[0], true
		}
		return Port{}, false
	}
	for _, p := range ports {
		if p.Name == name {
			return p, true
		}
	}
	return Port{}, false
}

// Resolve fills in what the declaration left to the file: the input's name, size, layout and colour, and the names of
// the outputs. What it cannot find out it reports, all at once, as an [*Error]. It does not compare what is declared with
// the file: services/infer does.
func (d Declaration) Resolve(sig Signature) (Declaration, error) {
	var c checker
	if in, ok := Find(sig.Inputs, d.Input.Name); ok {
		d.Input.Name = in.Name
		c.resolveInput(&d.Input, in)
	} else {
		c.add("input.name", "%s the file has inputs %s", portMissing(d.Input.Name), FormatPorts(sig.Inputs))
	}
	output := make(map[string]string, len(d.Output))
	for role, name := range d.Output {
		p, ok := Find(sig.Outputs, name)
		if !ok {
			c.add("output."+role, "%s the file has outputs %s", portMissing(name), FormatPorts(sig.Outputs))
		}
		output[role] = p.Name
	}
	d.Output = output
	if len(c.problems) > 0 {
		return d, &Error{Problems: sortByPath(c.problems)}
	}
	return d, nil
}

func portMissing(name string) string {
	if name == "" {
		return "write which one:"
	}
	return fmt.Sprintf("%q is not in the file:", name)
}

func (c *checker) resolveInput(in *Input, p Port) {
	if in.Resolved() {
		return
	}
	if len(p.Shape) != 4 {
		c.add("input", "is %s in the file: a picture needs four axes, [N,C,H,W] or [N,H,W,C]", p)
		return
	}
	isChannels := func(n int64) bool { return n == 1 || n == 3 }
	if in.Layout == "" {
		first, last := isChannels(p.Shape[1]), isChannels(p.Shape[3])
		switch {
		case first && !last:
			in.Layout = NCHW
		case last && !first:
			in.Layout = NHWC
		default:
			c.add("input.layout", "cannot be seen from %s: write nchw or nhwc", p)
			return
		}
	}
	channels, height, width := p.Axes(in.Layout)
	if in.Color == "" {
		switch channels {
		case 1:
			in.Color = Gray
		case 3:
			in.Color = RGB
		default:
			c.add("input.color", "cannot be seen from %s: write rgb, bgr or gray", p)
		}
	}
	side := func(path string, dst *int, n int64) {
		switch {
		case *dst != 0:
		case n > 0 && n <= maxSide:
			*dst = int(n)
		default:
			c.add(path, "cannot be seen from %s: write it", p)
		}
	}
	side("input.width", &in.Width, width)
	side("input.height", &in.Height, height)
}

// Axes are the channels, height and width of an input of four axes; -1 where the file leaves them open.
func (p Port) Axes(layout Layout) (channels, height, width int64) {
	if layout == NHWC {
		return p.Shape[3], p.Shape[1], p.Shape[2]
	}
	return p.Shape[1], p.Shape[2], p.Shape[3]
}
