package config

import (
	"crypto/x509"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/internal/strictyaml"
)

// A reader reads one file.
type reader struct {
	strictyaml.Reader
	mask
	file     string
	dir      string
	env      Env
	keys     []key
	known    []string // their names
	foreign  Problems // of other files
	warnings []Warning
}

// node is the value of a key.
type node struct {
	*yaml.Node
	path string
}

func (r *reader) warn(line int, path, message, explain string) {
	r.warnings = append(r.warnings, Warning{File: r.file, Line: line, Path: path, Message: message, Explain: explain})
}

// scalar reads a single value and substitutes its variables.
func (r *reader) scalar(v node, hint string) (scalar, bool) {
	switch {
	case strictyaml.Refused(v.Node):
		return scalar{}, false
	case v.Kind != yaml.ScalarNode:
		r.Add(v.Line, v.path, "is "+strictyaml.Kind(v.Node), hint)
		return scalar{}, false
	case strictyaml.Empty(v.Node):
		r.Add(v.Line, v.path, "is empty", "write a value, or leave the key out")
		return scalar{}, false
	}
	parts, complaints := expand(v.Value, r.env)
	for _, c := range complaints {
		r.Add(v.Line, v.path, c.message, c.hint)
	}
	s := scalar{line: v.Line, parts: parts}
	if len(complaints) > 0 {
		return s, false
	}
	if s.String() == "" {
		r.Add(v.Line, v.path, "is empty", "write a value, or leave the key out")
		return s, false
	}
	return s, true
}

// quote is a value as a message may show it.
func (r *reader) quote(s scalar) string { return r.show(s.written()) }

func word(put func(*draft, string)) func(*reader, node) (set, bool) {
	return func(r *reader, v node) (set, bool) {
		s, ok := r.scalar(v, "write one word")
		return func(d *draft) { put(d, s.String()) }, ok
	}
}

func integer(put func(*draft, int)) func(*reader, node) (set, bool) {
	return func(r *reader, v node) (set, bool) {
		n, ok := r.integer(v)
		return func(d *draft) { put(d, n) }, ok
	}
}

func (r *reader) integer(v node) (int, bool) {
	s, ok := r.scalar(v, "write a whole number")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s.String())
	if err != nil {
		r.Add(v.Line, v.path, r.quote(s)+" is not a whole number", "write one, as in 5")
	}
	return n, err == nil
}

var decimalNumber = regexp.MustCompile(`^[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,3})?$`)

func parseNumber(text string) (float64, bool) {
	if len(text) > 64 || !decimalNumber.MatchString(text) {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && !math.IsInf(n, 0)
}

func length(put func(*draft, duration)) func(*reader, node) (set, bool) {
	const hint = "write a number with its unit, as in 2s or 500ms"
	return func(r *reader, v node) (set, bool) {
		s, ok := r.scalar(v, hint)
		if !ok {
			return nil, false
		}
		d, err := time.ParseDuration(s.String())
		if err != nil {
			what := " is not a duration"
			if _, bare := parseNumber(s.String()); bare {
				what = " has no unit"
			}
			r.Add(v.Line, v.path, r.quote(s)+what, hint)
		}
		return func(c *draft) { put(c, duration(d)) }, err == nil
	}
}

func nanoseconds(d duration) time.Duration { return time.Duration(d) }

func decimal(n int) string { return strconv.Itoa(n) }

func boolText(b bool) string { return strconv.FormatBool(b) }

func (r *reader) boolean(v node) (value, ok bool) {
	s, ok := r.scalar(v, "write true or false")
	if !ok {
		return false, false
	}
	switch s.String() {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	r.Add(v.Line, v.path, r.quote(s)+" is neither true nor false", "write one of them")
	return false, false
}

// boolean reads true or false.
func boolean(put func(d *draft, v bool)) func(*reader, node) (set, bool) {
	return func(r *reader, v node) (set, bool) {
		b, ok := r.boolean(v)
		return func(d *draft) { put(d, b) }, ok
	}
}

func readFPS(r *reader, v node) (set, bool) {
	s, ok := r.scalar(v, fpsHint)
	if !ok {
		return nil, false
	}
	if s.String() == "all" {
		return func(d *draft) { d.FPS = AllFrames }, true
	}
	n, ok := parseNumber(s.String())
	switch {
	case !ok:
		r.Add(v.Line, v.path, r.quote(s)+" is not a number", fpsHint)
	case n == 0: // would mean all
		r.Add(v.Line, v.path, r.quote(s)+" is out of range", fpsHint)
	}
	return func(d *draft) { d.FPS = Rate(n) }, ok && n != 0
}

func readRatio(r *reader, v node) (set, bool) {
	s, ok := r.scalar(v, traceHint)
	if !ok {
		return nil, false
	}
	n, ok := parseNumber(s.String())
	if !ok {
		r.Add(v.Line, v.path, r.quote(s)+" is not a number", traceHint)
	}
	return func(d *draft) { d.TraceRatio = n }, ok
}

func readROI(r *reader, v node) (set, bool) {
	if strictyaml.Refused(v.Node) {
		return nil, false
	}
	if v.Kind != yaml.SequenceNode || len(v.Content) != len(frame.ROI{}) {
		r.Add(v.Line, v.path, "is not a list of four", roiHint)
		return nil, false
	}
	var roi frame.ROI
	good := true
	for i, item := range v.Content {
		s, ok := r.scalar(node{item, v.path}, roiHint)
		if !ok {
			good = false
			continue
		}
		if roi[i], ok = parseNumber(s.String()); !ok {
			r.Add(item.Line, v.path, r.quote(s)+" is not a number", roiHint)
			good = false
		}
	}
	if good && roi == (frame.ROI{}) { // would mean all
		r.Add(v.Line, v.path, "[0, 0, 0, 0] is not a region of the picture", roiHint)
		good = false
	}
	return func(d *draft) { d.ROI = roi }, good
}

func readTLS(r *reader, v node) (set, bool) {
	var t TLS
	good := true
	for _, e := range r.Entries(v.Node, v.path, "write {ca: file} or {insecure: true}") {
		ok := false
		switch e.Key {
		case "ca":
			t.CA, ok = r.certificates(node{e.Value, e.Path})
		case "insecure":
			t.Insecure, ok = r.boolean(node{e.Value, e.Path})
		default:
			r.Unknown(e, []string{"ca", "insecure"})
		}
		good = good && ok
	}
	if good && t.Insecure {
		r.warn(v.Line, v.path, "accepts any certificate", "whoever sits between here and the camera reads its password and chooses its pictures; write ca: with the camera's authority")
	}
	return func(d *draft) { d.TLS = t }, good
}

func tlsText(c Camera) string {
	switch {
	case c.TLS.Insecure:
		return "insecure"
	case c.TLS.CA != "":
		return "ca of " + decimal(len(c.TLS.CA)) + " bytes"
	default:
		return "the system's authorities"
	}
}

// certificates reads the file of a ca.
func (r *reader) certificates(v node) (string, bool) {
	s, ok := r.scalar(v, "write the name of a PEM file")
	if !ok {
		return "", false
	}
	path := r.beside(s.String())
	data, err := readRegular(path, maxCA)
	switch {
	case err != nil:
		r.Add(v.Line, v.path, "cannot be read: "+reason(err), "looked at "+r.shownPath(s))
	case !validCA(data):
		r.Add(v.Line, v.path, "holds no certificate", "write the name of a PEM file with -----BEGIN CERTIFICATE-----; looked at "+r.shownPath(s))
		return "", false
	}
	return string(data), err == nil
}

func validCA(data []byte) bool {
	return len(data) <= maxCA && x509.NewCertPool().AppendCertsFromPEM(data)
}

// beside is a path relative to the file.
func (r *reader) beside(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(r.dir, path)
}

// shownPath is the path that was looked at; one from the environment is shown as written.
func (r *reader) shownPath(s scalar) string {
	switch {
	case r.hides(s.written()):
		return redacted
	case s.fromEnv():
		return s.written()
	default:
		return r.beside(s.String())
	}
}

var errIrregular = errors.New("is not a regular file")

// readRegular reads a file that is no device and no pipe, so that reading ends.
func readRegular(path string, limit int) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errIrregular
	}
	f, err := os.Open(path) //nolint:gosec // the user's own file names it
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	return io.ReadAll(io.LimitReader(f, int64(limit)+1))
}

// reason is an error without the path that it is about.
func reason(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err
	}
	return err.Error()
}
