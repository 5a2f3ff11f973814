package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestLoadProblems(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	gone := filepath.Join(dir, "sightline.yaml")
	_, _, err := Load(gone, environment)
	if want := gone + ": cannot be read: no such file or directory: looked at " + gone; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing file is not fs.ErrNotExist")
	}
	_, _, err = Load(dir, environment)
	if want := dir + ": cannot be read: is not a regular file: looked at " + dir; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	const head = "defaults: {model: person}\ncameras: [{name: a, url: \"rtsp://h/x\"}]\n"
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"size", append([]byte(head), bytes.Repeat([]byte("#"), 1<<20)...), "f:1: is larger than 1 MiB: split it; no file that a person wrote is that long"},
		{"encoding", []byte(head + "# \xff\n"), "f:3: is not UTF-8 text: save the file as UTF-8"},
		{"control character", []byte(head + "# \x01\n"), "f:1: not YAML: a control character: remove it"},
		{"depth", []byte("cameras: " + strings.Repeat("[", 20000)), "f:1: not YAML: is nested too deeply: no setting has more than four levels"},
		{"value", []byte(head + "models: \"" + strings.Repeat("x", 9000) + "\"\n"), "f:3: models: is longer than 8 KiB: write a shorter value"},
	} {
		_, _, err := Parse("f", c.data, "testdata/golden", environment)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %.300v, want %s", c.name, err, c.want)
		}
	}
	full := append([]byte(head), bytes.Repeat([]byte("#"), 1<<20-len(head))...)
	if _, _, err := Parse("f", full, "testdata/golden", environment); err != nil {
		t.Errorf("exactly 1 MiB: %v", err)
	}
	windows := "\xef\xbb\xbf" + strings.ReplaceAll(head, "\n", "\r\n")
	if _, _, err := Parse("f", []byte(windows), "testdata/golden", environment); err != nil {
		t.Errorf("byte order mark and CRLF: %v", err)
	}
}

func TestReadableFileWithAPassword(t *testing.T) {
	t.Parallel()
	models, err := filepath.Abs("testdata/golden/models")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sightline.yaml")
	body := "models: " + models + "\ncameras:\n- {name: a, url: 'rtsp://u:PASSWORD@h/x', models: [person, vehicle]}\n"
	for _, c := range []struct {
		password string
		mode     fs.FileMode
		want     string
	}{
		{planted, 0o644, path + ": can be read by every user of this machine, and has a password in line 3: " +
			"chmod o-r it (its mode is 0644), or write ${NAME} for the password"},
		{planted, 0o640, path + ":3: cameras.a.url: has a password in clear text: " +
			"whoever reads this file or its history knows it; write ${NAME} and set the variable NAME"},
		{"${DOOR_PASSWORD}", 0o644, ""},
	} {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(body, "PASSWORD", c.password)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Load(path, environment)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(warnings) > 0 {
			got = warnings[0].String()
		}
		if got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// TestLargeFiles holds the work to the size of the file: none of these may take more than seconds.
func TestLargeFiles(t *testing.T) {
	t.Parallel()
	fill := func(line string) string {
		var b strings.Builder
		for i := 0; b.Len() < 1<<17; i++ {
			b.WriteString(strings.ReplaceAll(line, "#", strconv.Itoa(i)))
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"empty cameras":  "cameras:\n" + fill("- {}\n"),
		"cameras":        "defaults: {model: person, fps: 500}\ncameras:\n" + fill("- {name: c#, url: rtsp://h/#}\n"),
		"passwords":      "cameras:\n" + fill("- {password: secret#}\n"),
		"unknown keys":   fill("key#: x\n"),
		"variables":      "models: \"" + fill("${A}") + "\"\n",
		"quotes":         fill("\"'"),
		"anchors":        fill("k#: &a#\n"),
		"nested":         fill("[{a: "),
		"a long key":     fill("k") + ": x\n",
		"missing":        "cameras:\n" + fill("- {name: ${A#}}\n"),
		"repeated names": "cameras:\n" + fill("- {name: a}\n"),
	} {
		started := time.Now()
		_, _, err := Parse("f", []byte(text), "testdata/golden", environment)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		message := err.Error()
		t.Logf("%s: %s, %d bytes of problems", name, time.Since(started), len(message))
	}
}
