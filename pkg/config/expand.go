package config

import (
	"regexp"
	"strings"
)

// maxValue bounds a value after substitution.
const maxValue = 8 << 10

// An Env looks up an environment variable, as [os.LookupEnv] does.
type Env = func(name string) (value string, ok bool)

// scalar is one value of the file after substitution.
type scalar struct {
	line  int
	parts []part
}

// part is a piece of a value: as written, or what a variable holds.
type part struct {
	text     string
	variable string // its name, for a piece that came from the environment
	fallback bool   // the piece is the default of ${NAME:-default}: it stands in the file
}

func (s scalar) String() string {
	var b strings.Builder
	for _, p := range s.parts {
		b.WriteString(p.text)
	}
	return b.String()
}

// fromEnv says whether a piece of the value came from the environment.
func (s scalar) fromEnv() bool {
	for _, p := range s.parts {
		if p.variable != "" {
			return true
		}
	}
	return false
}

// written is the value as the file has it, so that a message does not tell what a variable holds.
func (s scalar) written() string {
	var b strings.Builder
	for _, p := range s.parts {
		if p.variable != "" {
			b.WriteString("${" + p.variable + "}")
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

// literal is what stands in the file itself.
func (s scalar) literal() string {
	var b strings.Builder
	for _, p := range s.parts {
		if p.variable == "" {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

type complaint struct{ message, hint string }

const dollarHint = "write ${NAME} for an environment variable, or $$ for a dollar sign"

// expand substitutes ${NAME} and ${NAME:-default}, and $$ by a dollar sign. The complaints name variables, never what
// they hold.
func expand(text string, env Env) (parts []part, complaints []complaint) {
	complain := func(message, hint string) { complaints = append(complaints, complaint{message, hint}) }
	for text != "" {
		before, rest, found := strings.Cut(text, "$")
		parts = literalPart(parts, before, false)
		if !found {
			break
		}
		text = rest
		switch {
		case strings.HasPrefix(rest, "$"):
			parts, text = literalPart(parts, "$", false), rest[1:]
		case !strings.HasPrefix(rest, "{"):
			complain("has a single $", dollarHint)
		default:
			inside, after, closed := strings.Cut(rest[1:], "}")
			name, fallback, hasFallback := strings.Cut(inside, ":-")
			text = after
			if !closed || !variableName.MatchString(name) {
				complain("has a ${ that is not the name of a variable", dollarHint)
				continue
			}
			value, ok := env(name)
			switch {
			case value != "":
				parts = append(parts, part{text: value, variable: name})
			case hasFallback:
				parts = literalPart(parts, fallback, true)
			case ok:
				complain("needs the environment variable "+name+", which is set but empty", "give it a value, or write ${"+name+":-default}")
			default:
				complain("needs the environment variable "+name+", which is not set", "set it, or write ${"+name+":-default}")
			}
		}
	}
	size := 0
	for _, p := range parts {
		size += len(p.text)
	}
	if size > maxValue {
		complain("is longer than 8 KiB", "write a shorter value")
	}
	return parts, complaints
}

func literalPart(parts []part, text string, fallback bool) []part {
	if text == "" {
		return parts
	}
	return append(parts, part{text: text, fallback: fallback})
}
