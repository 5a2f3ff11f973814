package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shared is the folder of models and images with expected answers, which is not part of the repository.
func shared(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SIGHTLINE_SHARED_DATA")
	if dir == "" {
		dir = "../../../../shared/data"
	}
	if _, err := os.Stat(filepath.Join(dir, "check.py")); err != nil {
		t.Skipf("NOT TESTED: no shared data at %s; SIGHTLINE_SHARED_DATA names another place", dir)
	}
	return dir
}

// TestDetectAgainstReference holds the command's output to answers that two other pipelines agreed on.
func TestDetectAgainstReference(t *testing.T) {
	dir := shared(t)
	images, err := filepath.Glob(filepath.Join(dir, "images", "*.png"))
	if err != nil || len(images) == 0 {
		t.Fatal("no images", err)
	}
	for model, expected := range map[string]string{
		"FastestDet": "fastestdet", "version-RFB-320": "ultraface_rfb320", "version-slim-320": "ultraface_slim320",
	} {
		t.Run(model, func(t *testing.T) {
			code, out, errs := run(t, t.Context(), append([]string{"detect", "--model", filepath.Join(dir, "models", model+".onnx")}, images...)...)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			answers := filepath.Join(t.TempDir(), "answers.jsonl")
			if err := os.WriteFile(answers, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			check := exec.CommandContext(t.Context(), "python3", filepath.Join(dir, "check.py"), filepath.Join(dir, "expected", expected+".json"), answers)
			if report, err := check.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, report)
			}
		})
	}
}

func TestDetectDigits(t *testing.T) {
	dir := shared(t)
	code, out, errs := run(t, t.Context(), "detect", "--model", filepath.Join(dir, "models", "mnist.onnx"),
		filepath.Join(dir, "images", "digit3.png"), filepath.Join(dir, "images", "digit7.png"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var r struct{ Classes []struct{ Cls int } }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if want := []int{3, 7}[i]; len(r.Classes) != 10 || r.Classes[0].Cls != want {
			t.Errorf("image %d: %s", i, line)
		}
	}
}

func TestDetectReportsBadFilesAndAnswersTheOthers(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.jpg")
	good := filepath.Join(dir, "good.png")
	if err := os.WriteFile(bad, []byte("not a picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x240", "-frames:v", "1", good)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg (Debian package ffmpeg): %v\n%s", err, out)
	}
	code, out, errs := run(t, t.Context(), "detect", "--models", "../../../models", "--model", "person", bad, good)
	if code != ExitFailed || !strings.Contains(errs, "bad.jpg") || strings.Count(out, "\n") != 1 || !strings.Contains(out, "good.png") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
}
