package heads

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A shape pattern is a list of axes, as in "N,A,5": a number is a length, a letter any length above 0, and the same letter
// is the same length everywhere in a model. N is the batch.

// matchAny matches a shape with the first pattern that fits and notes the lengths of its letters in axes.
func matchAny(patterns []string, shape []int64, axes map[string]int64) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, shape, axes) })
}

func match(pattern string, shape []int64, axes map[string]int64) bool {
	names := strings.Split(pattern, ",")
	if len(names) != len(shape) {
		return false
	}
	found := maps.Clone(axes)
	for i, name := range names {
		length := shape[i]
		if length < 0 { // left open by the file
			continue
		}
		want, err := strconv.ParseInt(name, 10, 64)
		if err != nil {
			var ok bool
			if want, ok = found[name]; !ok {
				found[name] = length
				want = max(length, 1) // an axis of no length matches nothing
			}
		}
		if length != want {
			return false
		}
	}
	maps.Copy(axes, found)
	return true
}

// describe writes patterns for a message.
func describe(patterns []string) string {
	words := make([]string, len(patterns))
	for i, p := range patterns {
		words[i] = "[" + p + "]"
	}
	return strings.Join(words, " or ")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
