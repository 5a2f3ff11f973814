// Package strictyaml reads YAML the way a configuration file should be read: every problem at once, each with its line
// and with what to write instead, and nothing that surprises.
//
// # Guarantees
//
// [Parse] refuses what is larger than [MaxSize], what is not UTF-8, more than one document, anchors, aliases and tags:
// a file means what it shows, and its size bounds the work. It never panics, and its problems never quote a value: a
// value may be a password. Which keys may be quoted is decided by [Reader.Show].
//
// # Concurrency
//
// A [Reader] belongs to one goroutine; the functions keep no state.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 1 << 20

// A Problem is one thing that is wrong.
type Problem struct {
	// Line is where, from 1.
	Line int
	// Path is the key, as in "defaults.fps"; empty for the file itself.
	Path string
	// Message is what is wrong, Hint is what to write instead.
	Message, Hint string
}

// Parse reads the one document in data. The root is nil when there is nothing to go on with: data is empty, which is
// no problem yet, or is not YAML. Nodes that were refused are left in the tree as [Refused].
func Parse(data []byte) (root *yaml.Node, problems []Problem) {
	if len(data) > MaxSize {
		return nil, []Problem{{Line: 1, Message: "is larger than 1 MiB", Hint: "split it; no file that a person wrote is that long"}}
	}
	if line := invalidUTF8(data); line > 0 {
		return nil, []Problem{{Line: line, Message: "is not UTF-8 text", Hint: "save the file as UTF-8"}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	doc, err := decode(dec)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntax(data, err)
	}
	problems = refuse(doc, nil)
	if second, err := decode(dec); err == nil {
		problems = append(problems, Problem{Line: max(second.Line, 1), Message: "begins a second document", Hint: "keep one document in a file, without ---"})
	} else if !errors.Is(err, io.EOF) {
		problems = append(problems, syntax(data, err)...)
	}
	if len(doc.Content) == 0 || Empty(doc.Content[0]) {
		return nil, problems
	}
	return doc.Content[0], problems
}

// errPanic stands for a defect of the parser.
var errPanic = errors.New("the parser gave up")

func decode(dec *yaml.Decoder) (doc *yaml.Node, err error) {
	defer func() {
		if recover() != nil {
			doc, err = nil, errPanic
		}
	}()
	doc = new(yaml.Node)
	return doc, dec.Decode(doc)
}

func invalidUTF8(data []byte) (line int) {
	if utf8.Valid(data) {
		return 0
	}
	line = 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			return line
		}
		if r == '\n' {
			line++
		}
		data = data[size:]
	}
	return line
}

// refuse reports and empties every node that is not plain data.
func refuse(n *yaml.Node, problems []Problem) []Problem {
	if n.Anchor != "" {
		problems = append(problems, Problem{
			Line: n.Line, Message: "an anchor (&name) is not supported",
			Hint: "write what cameras share under defaults:, and a value that begins with & in quotes",
		})
	}
	var message, hint string
	switch {
	case n.Kind == yaml.AliasNode:
		message, hint = "an alias (*name) is not supported", "write the value out, or under defaults: what cameras share"
	case n.Style&yaml.TaggedStyle != 0:
		message, hint = "a tag (!name) is not supported", "leave the tag out, and write a value that begins with ! in quotes"
	}
	if message != "" {
		*n = yaml.Node{Line: n.Line}
		return append(problems, Problem{Line: n.Line, Message: message, Hint: hint})
	}
	for _, c := range n.Content {
		problems = refuse(c, problems)
	}
	return problems
}

// Refused says whether the node was reported already and holds nothing.
func Refused(n *yaml.Node) bool { return n.Kind == 0 }

// Empty says whether the node is a key's missing value: nothing, null or "".
func Empty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Value == "" || n.Tag == "!!null")
}

// Kind describes a node without its value.
func Kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// Join appends a key to a path.
func Join(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

// An Entry is one key of a mapping with its value.
type Entry struct {
	Key   string
	Path  string
	Line  int
	Value *yaml.Node
}

// A Reader walks nodes and collects problems.
type Reader struct {
	Problems []Problem
	// Show makes a word of the file fit to be read in a message: quoted, shortened, or hidden when it may be a secret.
	Show func(string) string
}

// Add adds a problem.
func (r *Reader) Add(line int, path, message, hint string) {
	r.Problems = append(r.Problems, Problem{Line: max(line, 1), Path: path, Message: message, Hint: hint})
}

// Entries returns the keys of a mapping in their order, without repeated ones, which it reports. A node that is no
// mapping is reported with the hint.
func (r *Reader) Entries(n *yaml.Node, path, hint string) []Entry {
	if Refused(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.Add(n.Line, path, "is "+Kind(n), hint)
		return nil
	}
	first := map[string]int{}
	entries := make([]Entry, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case Refused(key):
			continue
		case key.Kind != yaml.ScalarNode:
			r.Add(key.Line, path, "has "+Kind(key)+" for a key", "write a word before the colon")
			continue
		}
		e := Entry{Key: key.Value, Path: Join(path, r.Word(key.Value)), Line: key.Line, Value: value}
		if line, ok := first[e.Key]; ok {
			r.Add(e.Line, e.Path, "is given twice", fmt.Sprintf("keep one of it and line %d", line))
			continue
		}
		first[e.Key] = e.Line
		entries = append(entries, e)
	}
	return entries
}

// Unknown reports a key that is not one of the known.
func (r *Reader) Unknown(e Entry, known []string) {
	hint := "write one of " + strings.Join(known, ", ")
	if meant := Suggest(e.Key, known); meant != "" {
		hint = "did you mean " + meant + "?"
	}
	r.Add(e.Line, e.Path, "is not a key", hint)
}

// Word is a key as it stands in a path: without quotes where it is a word, and as Show has it where it is not.
func (r *Reader) Word(key string) string {
	shown := r.Show(key)
	if plain := shown == key || shown == strconv.Quote(key); plain && key != "" && !strings.ContainsFunc(key, notWord) {
		return key
	}
	return shown
}

func notWord(c rune) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	return !letter && c != '_' && c != '-'
}
