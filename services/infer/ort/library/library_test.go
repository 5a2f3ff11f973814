package library

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	cache := t.TempDir()
	file := func(version string) string {
		path := filepath.Join(cache, "sightline", "onnxruntime", version, "libonnxruntime.so")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := map[string]string{"XDG_CACHE_HOME": cache, "HOME": "/nowhere"}
	find := func() (string, error) { return Find(func(name string) string { return env[name] }) }

	if path, err := find(); err == nil {
		t.Logf("this system has %s", path)
	} else if text := err.Error(); !errors.Is(err, ErrNotFound) || !strings.Contains(text, "Set "+Variable) ||
		!strings.Contains(text, "go mod download -json github.com/k2-fsa/sherpa-onnx-go-linux@v1.13.8") ||
		!strings.HasSuffix(text, " to "+filepath.Join(cache, "sightline/onnxruntime/1.28.2/libonnxruntime.so")) {
		t.Errorf("nothing there: %v", err)
	}

	file("1.9.0")
	newest := file("1.28.2")
	file("1.24.3")
	if path, err := find(); err != nil || path != newest {
		t.Errorf("cache: %s, %v, want %s", path, err, newest)
	}
	env["XDG_CACHE_HOME"], env["HOME"] = "", filepath.Dir(cache)
	if err := os.Rename(cache, filepath.Join(filepath.Dir(cache), ".cache")); err != nil {
		t.Fatal(err)
	}
	if path, err := find(); err != nil || !strings.HasSuffix(path, "/.cache/sightline/onnxruntime/1.28.2/libonnxruntime.so") {
		t.Errorf("home: %s, %v", path, err)
	}
	env[Variable] = "/nowhere/libonnxruntime.so"
	const want = "SIGHTLINE_ORT_LIBRARY=/nowhere/libonnxruntime.so: stat /nowhere/libonnxruntime.so: no such file or directory: " +
		"let it name a libonnxruntime.so, or unset it"
	if _, err := find(); !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
		t.Errorf("variable: %v, want %s", err, want)
	}
}
