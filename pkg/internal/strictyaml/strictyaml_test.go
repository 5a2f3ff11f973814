package strictyaml

import (
	"strconv"
	"testing"
)

func TestSuggest(t *testing.T) {
	t.Parallel()
	known := []string{"fps", "delivery", "max_age", "url"}
	for word, want := range map[string]string{
		"delivry": "delivery", "maxage": "max_age", "fsp": "fps", "uri": "url", "": "", "framerate": "", "x": "",
	} {
		if got := Suggest(word, known); got != want {
			t.Errorf("%q: did you mean %q? want %q", word, got, want)
		}
	}
}

// TestLines holds the line of what is not YAML to where a person would look.
func TestLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		line int
	}{
		{"a: [\n", 1},
		{"a: b\nc: [1, 2\nd: e\n", 2},
		{"a: b\nc: d: e\n", 2},
		{"a: b\nc\nd: e\n", 2},
		{"a:\n  b: c\n d: e\n", 3},
		{"a: b\n\tc: d\n", 2},
		{"a: b\nc: *none\n", 2},
		{"a: b\nc: 'open\n", 2},
		{"a: b\n\nc: @d\n", 3},
	} {
		root, problems := Parse([]byte(c.text))
		if root != nil || len(problems) != 1 || problems[0].Line != c.line {
			t.Errorf("%q: %v, want one in line %d", c.text, problems, c.line)
		}
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	root, problems := Parse([]byte("a: 1\nb: 2\na: 3\n? [x]\n: y\n'c d': 4\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := Reader{Show: strconv.Quote}
	entries := r.Entries(root, "top", "write keys")
	if len(entries) != 3 || entries[2].Path != `top."c d"` || entries[1].Line != 2 {
		t.Errorf("%+v", entries)
	}
	r.Unknown(entries[0], []string{"ab"})
	want := []Problem{
		{3, "top.a", "is given twice", "keep one of it and line 1"},
		{4, "top", "has a list for a key", "write a word before the colon"},
		{1, "top.a", "is not a key", "did you mean ab?"},
	}
	for i, p := range want {
		if i >= len(r.Problems) || r.Problems[i] != p {
			t.Fatalf("%+v, want %+v", r.Problems, want)
		}
	}
}
