package predictions_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/pkg/feedback"
	"github.com/sightline-dev/sightline/pkg/predictions"
)

const page = "../../docs/predictions.md"

// TestThePagesCodeIsTested holds docs/predictions.md to code that is compiled or run by other tests.
func TestThePagesCodeIsTested(t *testing.T) {
	tested := map[string][]string{
		"go": {"example_test.go"},
		"js": {filepath.Join(nodeExample, "predictions.mjs"), filepath.Join(nodeExample, "durable.mjs")},
	}
	found := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```").FindAllStringSubmatch(read(t, page), -1) {
		language, code := block[1], plain(block[2])
		found[language]++
		switch {
		case strings.Contains(code, feedback.SchemaID):
			if _, err := feedback.Decode([]byte(block[2])); err != nil {
				t.Errorf("%v\n%s", err, block[2])
			}
			continue
		case language == "json":
			if _, err := predictions.Decode([]byte(block[2])); err != nil {
				t.Errorf("%v\n%s", err, block[2])
			}
			continue
		case tested[language] == nil:
			t.Errorf("nobody tests code in %q:\n%s", language, block[2])
			continue
		}
		ok := false
		for _, file := range tested[language] {
			ok = ok || strings.Contains(plain(read(t, file)), code)
		}
		if !ok {
			t.Errorf("this is in none of %v:\n%s", tested[language], block[2])
		}
	}
	if found["go"] < 4 || found["js"] < 4 || found["json"] != 3 {
		t.Errorf("code blocks: %v", found)
	}
}

func TestThePagesLinksLeadSomewhere(t *testing.T) {
	for _, file := range []string{page, "../../examples/README.md", filepath.Join(nodeExample, "README.md")} {
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(read(t, file), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), link[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// plain is code without its indentation.
func plain(code string) string {
	lines := strings.Split(code, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return strings.Join(lines, "\n")
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
