package config

import (
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const documentation = "../../docs/configuration.md"

func tables() map[string]string {
	var cameras, environment strings.Builder
	cameras.WriteString("| Key | Default | Allowed | Example | Meaning |\n|---|---|---|---|---|\n")
	for _, k := range cameraKeys() {
		cameras.WriteString("| `" + k.name + "` | " + k.def + " | " + k.allowed + " | `" + k.example + "` | " + k.doc + " |\n")
	}
	environment.WriteString("| Variable | Default | Allowed | Meaning |\n|---|---|---|---|\n")
	for _, v := range processVariables() {
		environment.WriteString("| `" + v.name + "` | " + v.def + " | " + v.allowed + " | " + v.doc + " |\n")
	}
	demo := "| Key of `demo` | Default | Allowed | Meaning |\n|---|---|---|---|\n" +
		"| `footage` | required | a path | MPEG-TS with H.264 or H.265, JPEGs, or a folder of JPEGs |\n" +
		"| `path` | " + defaultDemoPath + " | letters, digits, `_`, `-`, `/` | the path of the stream |\n" +
		"| `port` | " + strconv.Itoa(defaultDemoPort) + " | 1 to 65535 | where the server listens on 127.0.0.1 |\n"
	return map[string]string{"cameras": cameras.String(), "environment": environment.String(), "demo": demo}
}

func TestDocumentedTables(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	doc, found := string(data), 0
	doc = regexp.MustCompile(`(?s)<!-- table: (\w+) -->\n.*?<!-- end -->`).ReplaceAllStringFunc(doc, func(old string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(old, "<!-- table: "), " ")
		found++
		return "<!-- table: " + name + " -->\n" + tables()[name] + "<!-- end -->"
	})
	if found != len(tables()) {
		t.Errorf("%d tables, want %d", found, len(tables()))
	}
	if doc == string(data) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: go test ./config -run TestDocumented -update", documentation)
	}
	if err := os.WriteFile(documentation, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(documentation)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) < 5 {
		t.Fatalf("%d examples", len(blocks))
	}
	env := Lookup([]string{"DOOR_PASSWORD=x", "CAMERA_PASSWORD=x", "SIGHTLINE_FOOTAGE=street.ts"})
	for _, b := range blocks {
		if _, _, err := Parse("example", []byte(b[1]), "testdata/golden", env); err != nil {
			t.Errorf("%v\n%s", err, b[1])
		}
	}
	for _, k := range cameraKeys() {
		if _, err := oneKey(k.name, k.example); err != nil {
			t.Errorf("example of %s: %v", k.name, err)
		}
	}
}

// oneKey reads a camera with one more key.
func oneKey(name, value string) (Camera, error) {
	keys := map[string]string{"name": "a", "url": "rtsps://h/x", "username": "u", "model": "person", name: "'" + value + "'"}
	if strings.ContainsAny(value[:1], "[{") {
		keys[name] = value
	}
	switch name {
	case "models":
		delete(keys, "model")
	case "url":
		delete(keys, "username")
	}
	var text strings.Builder
	if name == "enabled" {
		text.WriteString("cameras:\n- priority: 5\n")
	} else {
		text.WriteString("cameras:\n- enabled: true\n")
	}
	for k, v := range keys {
		text.WriteString("  " + k + ": " + v + "\n")
	}
	f, _, err := Parse("f", []byte(text.String()), "testdata/golden", environment)
	if err != nil {
		return Camera{}, err
	}
	return f.Cameras[0], nil
}

// TestDocumentedDefaults holds the column Default to what a camera without the key has.
func TestDocumentedDefaults(t *testing.T) {
	t.Parallel()
	bare, err := oneKey("model", "person")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range cameraKeys() {
		if k.text == nil || k.name == "url" || k.name == "models" {
			continue
		}
		if got := k.text(DefaultCamera()); got != k.def {
			t.Errorf("default of %s is %s, documented as %s", k.name, got, k.def)
		}
		if slices.Contains([]string{"roi", "labels", "tls"}, k.name) {
			continue // their default is no value
		}
		same, err := oneKey(k.name, k.def)
		if err != nil || !reflect.DeepEqual(bare, same) {
			t.Errorf("%s: %s differs from its being left out: %v", k.name, k.def, err)
		}
	}
	p := DefaultProcess()
	for name, got := range map[string]string{
		"SIGHTLINE_CONFIG": p.Config, "SIGHTLINE_NATS_URL": p.NATS.String(), "SIGHTLINE_LOG_FORMAT": p.LogFormat, "SIGHTLINE_HTTP": p.HTTP,
		"SIGHTLINE_REPLICAS": strconv.Itoa(p.Replicas), "SIGHTLINE_LOG_LEVEL": strings.ToLower(slog.Level.String(p.LogLevel)),
	} {
		i := slices.IndexFunc(processVariables(), func(v variable) bool { return v.name == name })
		if def := processVariables()[i].def; def != got {
			t.Errorf("default of %s is %s, documented as %s", name, got, def)
		}
	}
}

// TestDocumentedRanges holds the column Allowed to what is accepted: both ends are, what is beyond is not.
func TestDocumentedRanges(t *testing.T) {
	t.Parallel()
	found := 0
	for _, k := range cameraKeys() {
		m := regexp.MustCompile(`^([0-9.]+[a-z]*) to ([0-9.]+[a-z]*)`).FindStringSubmatch(k.allowed)
		if m == nil || k.name == "name" {
			continue
		}
		found++
		for i, end := range m[1:] {
			if _, err := oneKey(k.name, end); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
			if beyond := step(t, end, 2*i-1); beyond != "" {
				if _, err := oneKey(k.name, beyond); err == nil {
					t.Errorf("%s: %s is accepted, beyond the documented %s", k.name, beyond, k.allowed)
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("%d ranges", found)
	}
	for _, words := range []struct{ name, allowed string }{{"delivery", "freshest or every_frame"}, {"transport", "auto, tcp or udp"}} {
		for _, word := range strings.FieldsFunc(strings.ReplaceAll(words.allowed, " or ", ","), func(c rune) bool { return c == ',' || c == ' ' }) {
			if _, err := oneKey(words.name, word); err != nil {
				t.Errorf("%s: %v", words.name, err)
			}
		}
	}
}

// step is the next value beyond an end of a range.
func step(t *testing.T, end string, direction int) string {
	t.Helper()
	if d, err := time.ParseDuration(end); err == nil {
		return (d + time.Duration(direction)*time.Millisecond).String()
	}
	if n, err := strconv.Atoi(end); err == nil {
		return strconv.Itoa(n + direction)
	}
	v, err := strconv.ParseFloat(end, 64)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatFloat(v+float64(direction)*0.001, 'f', -1, 64)
}
