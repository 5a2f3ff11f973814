package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// A Problem is one thing that is wrong with a file or a setting. No part of it holds a secret.
type Problem struct {
	// File is the name of the file, empty for a setting that came from elsewhere.
	File string
	// Line is where in the file; 0 for the file as a whole.
	Line int
	// Path is the key, as in "cameras.front-door.fps". It is empty for the file as a whole.
	Path string
	// Message is what is wrong.
	Message string
	// Hint is what to write instead.
	Hint string

	cause error
}

// String is file:line: path: what is wrong: what to write instead.
func (p Problem) String() string {
	return place(p.File, p.Line) + joinNonEmpty(": ", p.Path, p.Message, p.Hint)
}

// Problems are all problems of a file, by line. It is the error of everything in this package.
type Problems []Problem //nolint:errname // reads as what it is: errors.As(err, &problems)

// Error lists all problems, one in a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns what the operating system said, where it did: a missing file is [io/fs.ErrNotExist].
func (p Problems) Unwrap() []error {
	var causes []error
	for _, problem := range p {
		if problem.cause != nil {
			causes = append(causes, problem.cause)
		}
	}
	return causes
}

// sorted sorts by line, the problems of other files (model.yaml) behind those of the first, and drops repetitions.
func (p Problems) sorted(first string) Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank(a.File, first), rank(b.File, first)), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	p = slices.CompactFunc(p, func(a, b Problem) bool {
		return a.File == b.File && a.Line == b.Line && a.Path == b.Path && a.Message == b.Message && a.Hint == b.Hint
	})
	if more := len(p) - maxProblems; more > 0 {
		p = append(p[:maxProblems:maxProblems], Problem{File: first, Message: "has " + strconv.Itoa(more) + " more problems", Hint: "mend these first"})
	}
	return p
}

// maxProblems bounds what is listed: more than that has one cause, and nobody reads it.
const maxProblems = 1000

func rank(file, first string) int {
	if file == first {
		return 0
	}
	return 1
}

func (p Problems) orNil() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// A Warning is something that works but that somebody should know of. No part of it holds a secret.
type Warning struct {
	File string
	Line int
	Path string
	// Message is what was found.
	Message string
	// Explain is why it matters and what to do.
	Explain string
}

// String is file:line: path: message: explanation.
func (w Warning) String() string {
	return place(w.File, w.Line) + joinNonEmpty(": ", w.Path, w.Message, w.Explain)
}

func place(file string, line int) string {
	if file == "" {
		return ""
	}
	if line == 0 {
		return file + ": "
	}
	return file + ":" + strconv.Itoa(line) + ": "
}

func joinNonEmpty(sep string, words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), sep)
}
