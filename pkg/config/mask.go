package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	minSecret  = 3   // shorter ones are hunted for only where they stand
	maxSecrets = 256 // with more of them a file's words are all hidden, which is quicker than to look for each
	maxShown   = 48  // bytes of a value in a message
)

// A mask hides what may be a secret in texts that come from the file.
type mask struct{ secrets []string }

var (
	secretKey   = regexp.MustCompile(`(?i)pass|pwd|secret|token|credential`)
	oneVariable = regexp.MustCompile(`^\$\{[A-Za-z_][A-Za-z0-9_]*\}$`)
	userInfo    = regexp.MustCompile(`//([^\s]*)@`)
	fallback    = regexp.MustCompile(`:-([^}]*)\}`)
	numeric     = regexp.MustCompile(`^[-+]?[0-9][0-9.]*([a-zµ]{1,2})?$`)
)

// newMask collects what looks like a secret anywhere in the file, wherever it was put by mistake.
func newMask(root *yaml.Node) mask {
	m := mask{}
	m.collect(root, false)
	slices.Sort(m.secrets)
	m.secrets = slices.Compact(m.secrets)
	return m
}

func (m *mask) collect(n *yaml.Node, secret bool) {
	if n.Kind == yaml.ScalarNode {
		if secret {
			m.add(n.Value)
			m.add(strings.ReplaceAll(n.Value, "$$", "$"))
			for _, match := range fallback.FindAllStringSubmatch(n.Value, -1) {
				m.add(match[1])
			}
		}
		for _, match := range userInfo.FindAllStringSubmatch(n.Value, -1) {
			_, password, _ := strings.Cut(match[1], ":")
			m.add(password)
		}
		return
	}
	for i, c := range n.Content {
		under := secret
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			under = secret || secretKey.MatchString(n.Content[i-1].Value)
		}
		m.collect(c, under)
	}
}

func (m *mask) add(secret string) {
	// What stands for a secret is none, and demo is a word of ours.
	if len(secret) >= minSecret && secret != demoURL && !oneVariable.MatchString(secret) {
		m.secrets = append(m.secrets, secret)
	}
}

// show makes a text fit for a message: quoted unless it is a number, shortened, and hidden if it may hold a secret.
func (m mask) show(text string) string {
	if numeric.MatchString(text) && !m.hides(text) {
		return text
	}
	if m.hides(text) {
		return redacted
	}
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return strconv.Quote(text)
}

func (m mask) hides(text string) bool {
	if len(m.secrets) > maxSecrets || strings.Contains(text, "://") || strings.Contains(text, "@") {
		return true
	}
	return slices.ContainsFunc(m.secrets, func(s string) bool { return strings.Contains(text, s) })
}
