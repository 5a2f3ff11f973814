package config

import (
	"cmp"
	"slices"
	"strings"
)

// A ChangeKind says what happens to a camera.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Removed ChangeKind = "removed"
)

// A Change is what would happen to one camera. No part of it holds a secret.
type Change struct {
	Kind ChangeKind `json:"kind"`
	Name string     `json:"name"`
	// URL is the address after the change, or before a removal.
	URL URL `json:"url"`
	// Keys are the settings that differ, in the order of the documentation; only when Changed.
	Keys []KeyChange `json:"keys,omitempty"`
}

// A KeyChange is one setting that differs.
type KeyChange struct {
	Key  string `json:"key"`
	From string `json:"from"`
	To   string `json:"to"`
}

// String is one line: "+ door rtsp://10.0.0.7/a", "- door rtsp://10.0.0.7/a" or "~ door fps: 10 -> 5".
func (c Change) String() string {
	switch c.Kind {
	case Added:
		return "+ " + c.Name + " " + c.URL.String()
	case Removed:
		return "- " + c.Name + " " + c.URL.String()
	default:
		words := make([]string, len(c.Keys))
		for i, k := range c.Keys {
			words[i] = k.Key + ": " + k.From + " -> " + k.To
		}
		return "~ " + c.Name + " " + strings.Join(words, "; ")
	}
}

// Diff is what must happen to have for it to become want, sorted by name. Cameras that are equal are left out.
func Diff(have, want []Camera) []Change {
	var changes []Change
	old := map[string]Camera{}
	for _, c := range have {
		old[c.Name] = c
	}
	kept := map[string]bool{}
	for _, c := range want {
		kept[c.Name] = true
		before, ok := old[c.Name]
		if !ok {
			changes = append(changes, Change{Kind: Added, Name: c.Name, URL: c.URL})
		} else if keys := differing(before, c); len(keys) > 0 {
			changes = append(changes, Change{Kind: Changed, Name: c.Name, URL: c.URL, Keys: keys})
		}
	}
	for _, c := range have {
		if !kept[c.Name] {
			changes = append(changes, Change{Kind: Removed, Name: c.Name, URL: c.URL})
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

func differing(a, b Camera) []KeyChange {
	var keys []KeyChange
	for _, k := range cameraKeys() {
		if k.text == nil {
			continue
		}
		c := KeyChange{Key: k.name, From: k.text(a), To: k.text(b)}
		hidden := k.name == "url" && !a.URL.Equal(b.URL) || k.name == "tls" && a.TLS != b.TLS
		if c.From == c.To && hidden {
			c.To += " (differs in what is not shown)"
		}
		if c.From != c.To {
			keys = append(keys, c)
		}
	}
	return keys
}
