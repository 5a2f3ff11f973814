package ort_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/backendtest"
	"github.com/sightline-dev/sightline/services/infer/ort"
	"github.com/sightline-dev/sightline/services/infer/ort/library"
)

// runtimeLibrary finds ONNX Runtime as a service does, or else takes the one in a Go module, which every machine that can build
// this can also get. Without any, the test fails: it must not pass by not running.
var runtimeLibrary = sync.OnceValues(func() (string, error) {
	path, err := library.Find(os.Getenv)
	if !errors.Is(err, library.ErrNotFound) {
		return path, err
	}
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/k2-fsa/sherpa-onnx-go-linux@v1.13.8")
	cmd.Dir = os.TempDir()
	out, downloadErr := cmd.Output()
	var module struct{ Dir string }
	if downloadErr = errors.Join(downloadErr, json.Unmarshal(out, &module)); downloadErr != nil {
		return "", errors.Join(err, downloadErr)
	}
	found, _ := filepath.Glob(filepath.Join(module.Dir, "lib", "x86_64-*", "libonnxruntime.so"))
	if len(found) == 0 {
		return "", err
	}
	return found[0], nil
})

func newBackend(tb testing.TB) *ort.Backend {
	tb.Helper()
	path, err := runtimeLibrary()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := ort.New(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestConforms(t *testing.T) {
	backendtest.Run(t, newBackend(t), "../testdata/person.onnx")
}

func TestNew(t *testing.T) {
	b := newBackend(t)
	if b.Version() == "" {
		t.Error("no version")
	}
	if _, err := ort.New("/elsewhere/libonnxruntime.so"); err == nil ||
		!strings.HasPrefix(err.Error(), "load /elsewhere/libonnxruntime.so: this process already uses ") {
		t.Errorf("error %v", err)
	}
}

// TestNewOfNoLibrary runs itself as another process, because this one may have its library already.
func TestNewOfNoLibrary(t *testing.T) {
	if path := os.Getenv(library.Variable); os.Getenv("NEW_OF_NO_LIBRARY") != "" {
		if _, err := ort.New(""); err == nil || !strings.Contains(err.Error(), path) ||
			!strings.HasSuffix(err.Error(), ": version 1.24 or newer is needed") {
			t.Errorf("error %v", err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(path, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNewOfNoLibrary$")
	cmd.Env = append(os.Environ(), library.Variable+"="+path, "NEW_OF_NO_LIBRARY=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestLoadErrors(t *testing.T) {
	b := newBackend(t)
	whole, err := os.ReadFile("../testdata/person.onnx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ name, path, want string }{
		{"cut off", write("cut.onnx", whole[:len(whole)/2]), "not a model that ONNX Runtime can read: "},
		{"text", write("text.onnx", []byte("<html>404</html>")), "not a model that ONNX Runtime can read: "},
		{"empty", write("empty.onnx", nil), "not a model that ONNX Runtime can read: "},
		{"directory", dir, "is a directory, not a model file"},
		{"missing", filepath.Join(dir, "none.onnx"), "no such file or directory"},
		{"no float output", "../testdata/int64_output.onnx", "has no input, or no float32 output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Load(t.Context(), backendtest.Artifact(c.path), infer.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("error %v, want one with %q and the path", err, c.want)
			}
		})
	}
	_, err = b.Load(t.Context(), backendtest.Artifact("../testdata/person.onnx"),
		infer.Options{Providers: []infer.Provider{{Name: "cuda"}, {Name: "openvino"}, {Name: "abacus"}}})
	for _, name := range []string{"cuda", "openvino", "abacus"} {
		if err == nil || !strings.Contains(err.Error(), "execution provider "+name+": ") {
			t.Errorf("error %v, want one about %s", err, name)
		}
	}
}

// TestLoadChecks loads whole models: what is wrong with a file must be found before the first frame.
func TestLoadChecks(t *testing.T) {
	b := newBackend(t)
	for _, c := range []struct {
		name, file string
		batch      int
		want       string // empty: it loads
	}{
		{"dynamic batch", "person", 8, ""},
		{"fixed batch of one", "person_fixed1", 1, ""},
		{"open axes", "person_open", 4, ""},
		{"fixed batch of one for eight", "person_fixed1", 8, `max_batch_size: expected a first axis of any length for ` +
			`batches of 8, found "images" float32 [1,3,8,8], "detections" float32 [1,1,5]: export the model with one, or write 1`},
		{"fixed batch of four", "person_fixed4", 1, `max_batch_size: expected a first axis of 1 or of any length, found ` +
			`"images" float32 [4,3,8,8]: export the model with an open batch axis`},
		{"nan", "nan", 1, "warm-up with a batch of 1: output detections holds NaN at 0: the model gives no answer"},
		{"batch folded away", "folds_batch", 2, `max_batch_size: expected a first axis of any length for ` +
			`batches of 2, found "detections" float32 [1,?,5]: export the model with one, or write 1`},
		{"columns", "seven_columns", 1, "output.detections: expected [N,A,5], found [?,1,7]"},
		{"two inputs", "two_inputs", 1, `input: expected one input, found "a" float32 [?,3,8,8], "b" float32 [?,3,8,8]`},
		{"bytes", "uint8_input", 1, `input: expected float32, found "raw" uint8 [?,3,8,8]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := backendtest.Artifact("../testdata/" + c.file + ".onnx")
			a.Declaration.MaxBatchSize = c.batch
			m, err := infer.Load(t.Context(), b, a, infer.Options{})
			if c.want != "" {
				if err == nil || !strings.HasSuffix(err.Error(), c.want) {
					t.Errorf("error:\n%v\nwant at its end:\n%s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNaNSparesTheOthers(t *testing.T) {
	b := newBackend(t)
	a := backendtest.Artifact("../testdata/nan_when_bright.onnx")
	m, err := infer.Load(t.Context(), b, a, infer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close() //nolint:errcheck // its own test
	picture := func(v byte) infer.Tensor {
		data := make([]byte, 3*8*8)
		for i := range data {
			data[i] = v
		}
		return infer.Tensor{Data: data, Transform: model.Identity(), SourceW: 8, SourceH: 8}
	}
	results, err := m.Infer(t.Context(), []infer.Tensor{picture(0), picture(255), picture(10)})
	items, ok := errors.AsType[*infer.ItemErrors](err)
	if !ok || items.Errs[0] != nil || items.Errs[1] == nil || items.Errs[2] != nil {
		t.Fatalf("error %v, want one for picture 1 alone", err)
	}
	if len(results[0].Detections) != 1 || len(results[2].Detections) != 1 {
		t.Errorf("results %+v, want a detection in 0 and 2", results)
	}
}

func TestCancelInTheMiddle(t *testing.T) {
	b := newBackend(t)
	a := backendtest.Artifact("../testdata/slow.onnx")
	s, err := b.Load(t.Context(), a, infer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	batch := infer.Batch{Shape: []int64{1, 3, 512, 512}, Data: make([]float32, 3*512*512)}
	const attempts = 5 // a busy machine takes now this long for the same, now that
	missed := "-"
	for range attempts {
		if missed = cancelled(t, s, batch); missed == "" {
			break
		}
		t.Log(missed)
	}
	if missed != "" {
		t.Errorf("missed in each of %d attempts, the last time: %s", attempts, missed)
	}
	whole(t, s, batch) // the session still works
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// whole is how long a run takes that nobody cancels.
func whole(t *testing.T, s infer.Session, batch infer.Batch) time.Duration {
	t.Helper()
	start := time.Now()
	o, err := s.Run(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	o.Release()
	return time.Since(start)
}

// cancelled cancels a run after a tenth, and returns what it missed when that did not shorten it.
func cancelled(t *testing.T, s infer.Session, batch infer.Batch) (missed string) {
	t.Helper()
	full := whole(t, s, batch)
	reason := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), full/10, reason)
	defer cancel()
	start := time.Now()
	o, err := s.Run(ctx, batch)
	took := time.Since(start)
	switch {
	case err == nil:
		o.Release()
		return fmt.Sprintf("it took %v, and then less than a tenth of it", full)
	case !errors.Is(err, reason):
		t.Errorf("error %v, want %v", err, reason)
	case took > full/2+50*time.Millisecond:
		return fmt.Sprintf("a run of %v, cancelled after a tenth, took %v", full, took)
	}
	return ""
}
