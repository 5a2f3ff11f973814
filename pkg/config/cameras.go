package config

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
	"github.com/sightline-dev/sightline/streams"
)

const camerasHint = "write a list of cameras with - name: and url:, or a mapping of names to settings"

// cameras reads the section, a list or a mapping.
func (r *resolver) cameras(e strictyaml.Entry) []Camera {
	var found []layer
	size := len(e.Value.Content)
	if e.Value.Kind == yaml.MappingNode {
		size /= 2
	}
	switch {
	case strictyaml.Refused(e.Value) || strictyaml.Empty(e.Value):
		return nil // and reported
	case size > maxCameras:
		r.Add(e.Line, e.Path, "has "+strconv.Itoa(size)+" cameras", "write at most "+strconv.Itoa(maxCameras)+" in a file")
		return nil
	case e.Value.Kind == yaml.SequenceNode:
		for i, n := range e.Value.Content {
			if own, ok := r.listed(n, e.Path, i); ok {
				found = append(found, own)
			}
		}
	default:
		for _, c := range r.Entries(e.Value, e.Path, camerasHint) {
			found = append(found, r.mapped(c))
		}
	}
	if size == 0 && e.Value.Kind != yaml.ScalarNode {
		r.Add(e.Line, e.Path, "has no camera", camerasHint)
	}
	lines := map[string]int{}
	var cameras []Camera
	for _, own := range found {
		r.own = own
		c := r.resolve()
		if first, ok := lines[c.Name]; ok && c.Name != "" {
			name, _ := own.pick("name")
			r.Add(max(name.line, own.line), own.path, "has the name of another camera", fmt.Sprintf("that of line %d; every camera has its own", first))
			continue
		}
		name, _ := own.pick("name")
		lines[c.Name] = max(name.line, own.line)
		cameras = append(cameras, c)
	}
	return cameras
}

// listed reads a camera of the list. Its path has its name where it can.
func (r *reader) listed(n *yaml.Node, section string, i int) (layer, bool) {
	l := layer{line: n.Line, path: section + "[" + strconv.Itoa(i) + "]"}
	switch {
	case strictyaml.Refused(n):
		return l, false
	case strictyaml.Empty(n):
		r.Add(n.Line, l.path, "is empty", camerasHint)
		return l, false
	}
	for j := 0; n.Kind == yaml.MappingNode && j+1 < len(n.Content); j += 2 {
		name := n.Content[j+1]
		if n.Content[j].Value == "name" && name.Kind == yaml.ScalarNode && streams.CheckToken(name.Value) == nil && !r.hides(name.Value) {
			l.path = section + "." + name.Value
		}
	}
	return r.layer(l, r.Entries(n, l.path, camerasHint), nil), n.Kind == yaml.MappingNode
}

// mapped reads a camera of the mapping, whose name is the key.
func (r *reader) mapped(c strictyaml.Entry) layer {
	l := layer{line: c.Line, path: c.Path}
	var entries []strictyaml.Entry
	if !strictyaml.Empty(c.Value) {
		entries = r.Entries(c.Value, c.Path, "write the keys of a camera under its name")
	}
	l = r.layer(l, entries, map[string]string{"name": "stands before the colon already"})
	name := entry{line: c.Line, path: c.Path, put: func(d *draft) { d.Name = c.Key }, ok: streams.CheckToken(c.Key) == nil}
	if !name.ok {
		r.Add(c.Line, c.Path, "is not a name", "write 1 to 63 letters, digits, - or _, beginning with a letter or digit")
	}
	l.entries["name"] = name
	return l
}

// demoURL is what a camera has for a url to play the built-in camera.
const demoURL = "demo"

const (
	defaultDemoPath = "demo"
	defaultDemoPort = 8554
)

// A Demo is the built-in camera: a local RTSP server that plays footage.
type Demo struct {
	// Footage is the path of an MPEG-TS or JPEG file, or of a folder of JPEGs.
	Footage string `json:"footage"`
	// Path is the stream's path at the server, without a slash in front.
	Path string `json:"path"`
	// Port is where the server listens on 127.0.0.1.
	Port int `json:"port"`
}

// URL is where the built-in camera is.
func (d Demo) URL() URL {
	return location{scheme: "rtsp", host: "127.0.0.1:" + strconv.Itoa(d.Port), rest: "/" + d.Path}.url(false)
}

var (
	demoKeys = []string{"footage", "path", "port"}
	demoPath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*$`)
)

// demo reads the section; nil means that something is wrong with it, and reported.
func (r *reader) demo(e strictyaml.Entry) *Demo {
	if strictyaml.Empty(e.Value) || strictyaml.Refused(e.Value) {
		return nil
	}
	before := len(r.Problems)
	d := Demo{Path: defaultDemoPath, Port: defaultDemoPort}
	hasFootage := false
	for _, x := range r.Entries(e.Value, e.Path, "write {footage: file.ts}") {
		v := node{x.Value, x.Path}
		switch x.Key {
		case "footage":
			hasFootage = true
			d.Footage = r.footage(v)
		case "path":
			s, ok := r.scalar(v, "write one word")
			if d.Path = strings.TrimPrefix(s.String(), "/"); ok && (len(d.Path) > 255 || !demoPath.MatchString(d.Path)) {
				r.Add(x.Line, x.Path, r.quote(s)+" is not a path of the server", "write letters, digits, _, - and /, as in street")
			}
		case "port":
			var ok bool
			if d.Port, ok = r.integer(v); ok && (d.Port < 1 || d.Port > 65535) {
				r.Add(x.Line, x.Path, "is out of range", "write 1 to 65535")
			}
		default:
			r.Unknown(x, demoKeys)
		}
	}
	if !hasFootage && e.Value.Kind == yaml.MappingNode {
		r.Add(e.Line, e.Path, "has no footage", "write footage: and a file that the camera plays, as in ${SIGHTLINE_FOOTAGE}")
	}
	if len(r.Problems) > before {
		return nil
	}
	return &d
}

func (r *reader) footage(v node) string {
	s, ok := r.scalar(v, "write the name of a file")
	if !ok {
		return ""
	}
	path := r.beside(s.String())
	if _, err := os.Stat(path); err != nil {
		r.Add(v.Line, v.path, "cannot be read: "+reason(err), "looked at "+r.shownPath(s))
	}
	return path
}
