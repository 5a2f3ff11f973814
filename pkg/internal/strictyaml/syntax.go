package strictyaml

import (
	"bytes"
	"fmt"
	"strings"
)

// meanings translates what the parser says. Only what stands here is ever shown: the parser quotes names of anchors,
// and a password that begins with * looks like one.
var meanings = []struct {
	says, message, hint string
	// later corrects a line that the parser counts from 0, which it does where it tells the line of a block's beginning.
	later int
}{
	{says: "could not find expected ':'", message: "a key without its colon", hint: "write key: value, with a blank after the colon"},
	{
		says: "mapping values are not allowed", message: "a colon where no key can be",
		hint: "indent with blanks, and write a value that holds ': ' in quotes",
	},
	{
		says: "did not find expected key", message: "the lines of a mapping do not fit together",
		hint: "indent all its keys alike", later: 1,
	},
	{
		says: "did not find expected '-' indicator", message: "the lines of a list do not fit together",
		hint: "begin its items with - in one column, and indent the keys of an item alike", later: 1,
	},
	{says: "did not find expected ',' or ']'", message: "a list that is not closed", hint: "write [a, b]", later: 1},
	{says: "did not find expected ',' or '}'", message: "a mapping that is not closed", hint: "write {key: value}", later: 1},
	{says: "did not find expected <document start>", message: "something stands where a key should", hint: "write keys and values", later: 1},
	{says: "did not find expected node content", message: "a value is missing", hint: "write it, in quotes if it begins with , ] or }", later: 1},
	{says: "found unexpected end of stream", message: "a quote that is not closed", hint: "close it"},
	{
		says: "cannot start any token", message: "a value that begins with a character that YAML keeps for itself",
		hint: "write the value in quotes",
	},
	{says: "block sequence entries are not allowed", message: "a list item where none can be", hint: "begin the list in a line of its own"},
	{says: "found unknown escape character", message: "an unknown \\ escape within double quotes", hint: "use single quotes, or \\\\ for one \\"},
	{says: "control characters are not allowed", message: "a control character", hint: "remove it"},
	{says: "exceeded max depth", message: "is nested too deeply", hint: "no setting has more than four levels"},
	{says: "unknown anchor", message: "an alias (*name) is not supported", hint: "write a value that begins with * in quotes"},
}

// syntax explains why data is not YAML. A tab in the indentation confuses the parser lines later, so tabs win.
func syntax(data []byte, err error) []Problem {
	if tabs := tabbed(data); len(tabs) > 0 {
		return tabs
	}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{Line: 1, Message: "not YAML", Hint: "check indentation, colons and quotes"}
	_, told := fmt.Sscanf(text, "line %d:", &p.Line)
	if told != nil {
		p.Line = aliasLine(data, text)
	}
	for _, m := range meanings {
		if strings.Contains(text, m.says) {
			p.Message, p.Hint = "not YAML: "+m.message, m.hint
			if told == nil {
				p.Line += m.later
			}
			break
		}
	}
	p.Line = min(max(p.Line, 1), lines(data))
	return []Problem{p}
}

func lines(data []byte) int {
	n := bytes.Count(data, []byte("\n"))
	if !bytes.HasSuffix(data, []byte("\n")) {
		n++
	}
	return max(n, 1)
}

func tabbed(data []byte) (problems []Problem) {
	line := 0
	for text := range bytes.Lines(data) {
		line++
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		if bytes.ContainsRune(indent, '\t') && len(bytes.TrimSpace(text)) > 0 {
			problems = append(problems, Problem{Line: line, Message: "is indented with a tab", Hint: "indent with blanks"})
		}
	}
	return problems
}

// aliasLine finds the alias in a message that tells its name and no line.
func aliasLine(data []byte, text string) int {
	_, name, _ := strings.Cut(text, "unknown anchor '")
	name = strings.TrimSuffix(name, "' referenced")
	if before, _, ok := bytes.Cut(data, []byte("*"+name)); ok && name != "" {
		return 1 + bytes.Count(before, []byte("\n"))
	}
	return 1
}
