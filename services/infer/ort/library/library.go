// Package library finds the ONNX Runtime library on a machine. It is apart from the adapter so that it needs no C.
package library

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Variable is the environment variable that names the ONNX Runtime library.
const Variable = "SIGHTLINE_ORT_LIBRARY"

// ErrNotFound says that ONNX Runtime is not on this machine.
var ErrNotFound = errors.New("ONNX Runtime is not on this machine")

// Find finds the ONNX Runtime library: the file that SIGHTLINE_ORT_LIBRARY names, or else the newest below
// ${XDG_CACHE_HOME:-$HOME/.cache}/sightline/onnxruntime, or else one that the system has. The error says where it looked
// and what to do.
func Find(getenv func(string) string) (string, error) {
	if path := getenv(Variable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s=%s: %w: let it name a libonnxruntime.so, or unset it", Variable, path, err)
		}
		return path, nil
	}
	patterns := places(getenv)
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			continue // only a bad pattern is an error, and these are constant
		}
		return slices.MaxFunc(found, compareVersions), nil
	}
	return "", fmt.Errorf("%w: looked for %s. Set %s to a libonnxruntime.so, 1.24 or newer, or fetch one: "+
		"run \"go mod download -json github.com/k2-fsa/sherpa-onnx-go-linux@v1.13.8\" and copy "+
		"lib/%s/libonnxruntime.so of the Dir that it prints to %s",
		ErrNotFound, strings.Join(patterns, ", "), Variable, triple(),
		strings.Replace(patterns[0], "*", "1.28.2", 1))
}

func triple() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64-unknown-linux-gnu"
	}
	return "x86_64-unknown-linux-gnu"
}

func places(getenv func(string) string) []string {
	cache := getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(getenv("HOME"), ".cache")
	}
	const name = "libonnxruntime.so"
	multiarch := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return []string{
		filepath.Join(cache, "sightline", "onnxruntime", "*", name),
		filepath.Join("/opt/onnxruntime/lib", name),
		filepath.Join("/usr/local/lib", name),
		filepath.Join("/usr/lib", multiarch, name),
		filepath.Join("/usr/lib", multiarch, name+".1*"),
		filepath.Join("/usr/lib64", name),
		filepath.Join("/usr/lib", name),
	}
}

// compareVersions compares paths so that 1.9 comes before 1.10.
func compareVersions(a, b string) int {
	number := func(r rune) bool { return r < '0' || r > '9' }
	x, y := strings.FieldsFunc(a, number), strings.FieldsFunc(b, number)
	order := slices.CompareFunc(x, y, func(p, q string) int {
		i, _ := strconv.Atoi(p) // digits; what overflows is no version
		j, _ := strconv.Atoi(q)
		return cmp.Compare(i, j)
	})
	return cmp.Or(order, strings.Compare(a, b))
}
