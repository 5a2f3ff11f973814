package config

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files and the tables of docs/configuration.md")

// planted is in every secret of the test files: nothing but Reveal may show it.
const planted = "hunter2"

// environment is what golden files may refer to.
func environment(name string) (string, bool) {
	value, ok := map[string]string{
		"DOOR_PASSWORD": planted + "-door",
		"SLASHED":       planted + "/@:#?% x",
		"CREDENTIALS":   "user:" + planted + "@home",
		"STREAM_KEY":    planted + "Key",
		"WHOLE_URL":     "rtsp://user:" + planted + "@10.0.0.9/" + planted,
		"PRIORITY":      "7",
		"EMPTY":         "",
		"FOOTAGE":       "street.ts",
	}[name]
	return value, ok
}

// TestGolden reads each testdata/golden/NAME.yaml and holds what comes of it to NAME.want.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, warnings, err := Parse(filepath.Base(file), data, filepath.Dir(file), environment)
			got := render(t, f, warnings, err)
			if strings.Contains(got, planted) {
				t.Errorf("the secret is told:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func render(t *testing.T, f *File, warnings []Warning, err error) string {
	t.Helper()
	var b strings.Builder
	if err != nil {
		if _, ok := errors.AsType[Problems](err); !ok || f != nil {
			t.Errorf("a file and an error of %T", err)
		}
		b.WriteString("problems:\n" + err.Error() + "\n")
	}
	if len(warnings) > 0 {
		b.WriteString("warnings:\n")
		for _, w := range warnings {
			b.WriteString(w.String() + "\n")
		}
	}
	if f != nil {
		data, err := json.MarshalIndent(f, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("file:\n" + string(data) + "\n")
		for _, c := range f.Cameras {
			if err := c.Validate(); err != nil {
				t.Errorf("accepted, but not valid: %v", err)
			}
		}
	}
	return b.String()
}
