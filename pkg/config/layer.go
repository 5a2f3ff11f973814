package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
	"github.com/sightline-dev/sightline/streams"
)

// A layer is the keys that stand together: those of defaults, or those of a camera.
type layer struct {
	line    int
	path    string
	entries map[string]entry
}

// entry is one key of a layer.
type entry struct {
	line int
	path string
	put  set
	ok   bool // the value could be read
	// shown is the value as a message may show it where a variable is in it, which then is not told.
	shown   string
	tainted bool
}

// pick finds the first of the names that the layer has.
func (l layer) pick(names ...string) (entry, bool) {
	for _, name := range names {
		if e, ok := l.entries[name]; ok {
			return e, true
		}
	}
	return entry{}, false
}

// layer reads the keys of a mapping; those of refused have a message of their own.
func (r *reader) layer(l layer, entries []strictyaml.Entry, refused map[string]string) layer {
	known := r.known
	l.entries = map[string]entry{}
	for _, e := range entries {
		i := slices.Index(known, e.Key)
		if why, ok := refused[e.Key]; ok {
			r.Add(e.Line, e.Path, why, "remove it")
			continue
		}
		if i < 0 {
			r.Unknown(e, known)
			continue
		}
		x := entry{line: e.Line, path: e.Path, tainted: hasVariable(e.Value)}
		if e.Value.Kind == yaml.ScalarNode {
			parts, _ := expand(e.Value.Value, r.env)
			x.shown = r.quote(scalar{parts: parts})
		}
		x.put, x.ok = r.keys[i].read(r, node{e.Value, e.Path})
		l.entries[e.Key] = x
	}
	if one, ok := l.entries["model"]; ok {
		if several, ok := l.entries["models"]; ok {
			r.Add(max(one.line, several.line), l.path, "has model and models", "keep one of them")
		}
	}
	return l
}

// apply puts the values of the layer into d.
func (l layer) apply(d *draft) {
	for _, name := range slices.Sorted(maps.Keys(l.entries)) {
		if e := l.entries[name]; e.ok {
			e.put(d)
		}
	}
}

func hasVariable(n *yaml.Node) bool {
	return strings.Contains(n.Value, "$") || slices.ContainsFunc(n.Content, hasVariable)
}

func readName(r *reader, v node) (set, bool) {
	s, ok := r.scalar(v, "write one word")
	if ok && streams.CheckToken(s.String()) != nil {
		r.Add(v.Line, v.path, r.quote(s)+" is not a name", "write 1 to 63 letters, digits, - or _, beginning with a letter or digit")
		ok = false
	}
	return func(d *draft) { d.Name = s.String() }, ok
}

func readURL(r *reader, v node) (set, bool) {
	s, ok := r.scalar(v, wantURL)
	return func(d *draft) { d.address = s }, ok
}

func readUsername(r *reader, v node) (set, bool) {
	s, ok := r.scalar(v, "write one word")
	return func(d *draft) { d.username = s }, ok
}

func readPassword(r *reader, v node) (set, bool) {
	s, ok := r.scalar(v, "write one text")
	if ok && s.literal() != "" {
		r.clearText(v.Line, v.path)
	}
	return func(d *draft) { d.password = s }, ok
}

const clearTextMessage = "has a password in clear text"

func (r *reader) clearText(line int, path string) {
	r.warn(line, path, clearTextMessage, "whoever reads this file or its history knows it; write ${NAME} and set the variable NAME")
}

func readModel(r *reader, v node) (set, bool) {
	s, ok := r.scalar(v, "write the name of one model, or models: [a, b]")
	return func(d *draft) { d.Models = []string{s.String()} }, ok
}

func readModels(r *reader, v node) (set, bool) {
	const hint = "write [a, b], or model: and one name"
	if strictyaml.Refused(v.Node) {
		return nil, false
	}
	if v.Kind != yaml.SequenceNode || len(v.Content) == 0 {
		r.Add(v.Line, v.path, "is not a list of models", hint)
		return nil, false
	}
	names, good := make([]string, 0, len(v.Content)), true
	for i, item := range v.Content {
		s, ok := r.scalar(node{item, v.path + "[" + strconv.Itoa(i) + "]"}, hint)
		names, good = append(names, s.String()), good && ok
	}
	return func(d *draft) { d.Models = slices.Clone(names) }, good
}

func readLabels(r *reader, v node) (set, bool) {
	labels, good := map[string]string{}, true
	for _, e := range r.Entries(v.Node, v.path, "write {key: text}") {
		s, ok := r.scalar(node{e.Value, e.Path}, "write one text")
		labels[e.Key], good = s.String(), good && ok
	}
	return func(d *draft) {
		all := maps.Clone(d.Labels)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, labels)
		d.Labels = all
	}, good && v.Kind == yaml.MappingNode
}
