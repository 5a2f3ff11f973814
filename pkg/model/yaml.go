package model

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
)

// A reader walks YAML nodes, collects problems and remembers where each key was.
type reader struct {
	problems []Problem
	lines    map[string]int
	beside   fs.FS
}

// A field reads one value; fields are the keys that a mapping may have.
type (
	field  func(r *reader, n *yaml.Node, path string)
	fields map[string]field
)

func (r *reader) add(n *yaml.Node, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: n.Line, Path: path, Text: fmt.Sprintf(format, args...)})
}

// merge adds problems that know their key but not their line, unless that key already has one.
func (r *reader) merge(problems []Problem) {
	reported := map[string]bool{}
	for _, p := range r.problems {
		reported[p.Path] = true
	}
	for _, p := range problems {
		if reported[p.Path] {
			continue
		}
		for path := p.Path; ; {
			if line, ok := r.lines[path]; ok || path == "" {
				p.Line = max(line, 1)
				break
			}
			path = path[:max(strings.LastIndexByte(path, '.'), 0)]
		}
		r.problems = append(r.problems, p)
	}
}

func (r *reader) sorted() []Problem {
	slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return r.problems
}

// value finds the value of a key without reporting anything.
func value(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

// resolve follows an alias. What it names is never an alias itself, and the fixed depth of a declaration keeps a
// circular one from looping.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func (r *reader) mapping(n *yaml.Node, path string, keys fields) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.add(n, path, "is %s: write keys and values", kind(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], resolve(n.Content[i+1])
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		if first, ok := seen[key.Value]; ok {
			r.add(key, at, "is given twice: it already stands in line %d", first)
			continue
		}
		seen[key.Value] = key.Line
		read, ok := keys[key.Value]
		switch {
		case !ok:
			r.add(key, at, "is not a key: %s", suggest(key.Value, slices.Sorted(maps.Keys(keys))))
		case val.Kind == yaml.ScalarNode && (val.Tag == "!!null" || val.Value == ""):
			r.add(key, at, "is empty: write a value or leave the key out")
		default:
			r.lines[at] = key.Line
			read(r, val, at)
		}
	}
}

// kind describes a node for a message.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return strconv.Quote(n.Value)
	default:
		return "nothing"
	}
}

func text[T ~string](dst *T) field {
	return func(r *reader, n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode {
			r.add(n, path, "is %s: write one word or text", kind(n))
			return
		}
		*dst = T(n.Value)
	}
}

func integer(dst *int) field {
	return func(r *reader, n *yaml.Node, path string) {
		var v int
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Decode(&v) != nil {
			r.add(n, path, "is %s: write a whole number", kind(n))
			return
		}
		*dst = v
	}
}

func number(dst *float64) field {
	return func(r *reader, n *yaml.Node, path string) {
		var v float64
		if n.Kind != yaml.ScalarNode || (n.Tag != "!!int" && n.Tag != "!!float") || n.Decode(&v) != nil {
			r.add(n, path, "is %s: write a number", kind(n))
			return
		}
		*dst = v
	}
}

// channels reads one number for all channels or a list of one for each.
func channels(dst *PerChannel) field {
	return func(r *reader, n *yaml.Node, path string) {
		before := len(r.problems)
		var v PerChannel
		if n.Kind == yaml.SequenceNode {
			if len(n.Content) != len(v) {
				r.add(n, path, "is a list of %d: write one number, or three in the order of color", len(n.Content))
				return
			}
			for i, item := range n.Content {
				number(&v[i])(r, resolve(item), path+"["+strconv.Itoa(i)+"]")
			}
		} else {
			number(&v[0])(r, n, path)
			v = All(v[0])
		}
		if len(r.problems) == before {
			*dst = v
		}
	}
}

func (r *reader) words(n *yaml.Node, path string, dst *[]string) {
	if n.Kind != yaml.SequenceNode {
		r.add(n, path, "is %s: write a list, as in [person, car]", kind(n))
		return
	}
	*dst = make([]string, 0, len(n.Content))
	for i, item := range n.Content {
		item = resolve(item)
		if item.Kind != yaml.ScalarNode || (item.Tag != "!!str" && item.Tag != "!!int") {
			r.add(item, path, "name %d is %s: write a word, in quotes where YAML sees more in it", i, kind(item))
			continue
		}
		*dst = append(*dst, item.Value)
	}
}

// suggest names the key that was probably meant, or all of them.
func suggest(key string, keys []string) string {
	if meant := strictyaml.Suggest(key, keys); meant != "" {
		return "did you mean " + meant + "?"
	}
	return "write one of " + list(keys)
}
