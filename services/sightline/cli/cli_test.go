package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// run runs one command line as a user would, with the environment of this process and more.
func run(t *testing.T, ctx context.Context, args ...string) (code int, out, errs string) { //nolint:revive // ctx after t reads better in tests
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(ctx, args, os.Environ(), Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

// footage is ten seconds of a moving test picture as H.264 in MPEG-TS.
func footage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "footage.ts")
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10:duration=10",
		"-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "10", "-f", "mpegts", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg (Debian package ffmpeg): %v\n%s", err, out)
	}
	return path
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// site is a folder with a configuration of one demo camera.
func site(t *testing.T, extra string) string {
	t.Helper()
	models, err := filepath.Abs("../../../models")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sightline.yaml")
	text := "models: " + models + "\ndemo: {footage: " + footage(t) + ", port: " + freePort(t) + "}\ncameras:\n  - name: street\n    url: demo\n    model: person\n" + extra
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUpPredictsAndBalancesItsBooks(t *testing.T) {
	for _, delivery := range []string{"freshest", "every_frame"} {
		t.Run(delivery, func(t *testing.T) {
			file, port, store := site(t, "    delivery: "+delivery+"\n"), freePort(t), t.TempDir()
			code, out, errs := run(t, t.Context(), "up", "--config", file, "--port", port, "--data-dir", store, "--for", "6s", "--json")
			if code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", code, out, errs)
			}
			lines := strings.Split(strings.TrimSpace(out), "\n")
			var last struct {
				Predicted, Lost uint64
				Cameras         []struct {
					Books struct{ Captured, Predicted uint64 }
				}
			}
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
				t.Fatal(err)
			}
			if last.Predicted < 20 || last.Lost != 0 || len(last.Cameras) != 1 {
				t.Errorf("summary %s", lines[len(lines)-1])
			}
		})
	}
}

// TestOperatorsCommands starts a system and asks it what a person would.
func TestOperatorsCommands(t *testing.T) {
	file, port := site(t, ""), freePort(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan string, 1)
	go func() {
		code, out, errs := run(t, ctx, "up", "--config", file, "--port", port, "--data-dir", t.TempDir())
		done <- strconv.Itoa(code) + "\n" + out + errs
	}()
	defer func() {
		stop()
		if result := <-done; !strings.HasPrefix(result, "0\n") || !strings.Contains(result, "lost 0") {
			t.Errorf("Ctrl-C: %s", result)
		}
	}()
	nats := "nats://127.0.0.1:" + port
	deadline := time.Now().Add(30 * time.Second)
	for { // until it answers
		code, out, _ := run(t, t.Context(), "predictions", "--nats", nats, "--json")
		if code == 0 && strings.Contains(out, `"camera":"street"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no predictions: %s", <-done)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"follow", []string{"predictions", "--follow", "-n", "3", "--camera", "street"}, []string{"person@1"}},
		{"since", []string{"predictions", "--since", "1m", "--json"}, []string{`"schema":"sightline.prediction.v1"`, `"frame":"street/`}},
		{"ledger", []string{"ledger"}, []string{"CAMERA", "street", "person", "freshest"}},
		{"ledger json", []string{"ledger", "--json"}, []string{`"lost":0`}},
		{"cameras", []string{"cameras"}, []string{"street", "live", "ingest-1"}},
		{"cameras json", []string{"cameras", "--json"}, []string{`"state":"live"`}},
		{"apply again", []string{"apply", "--config", file}, []string{"nothing to change"}},
		{"apply dry", []string{"apply", "--config", file, "--dry-run", "--json"}, []string{`"changes":`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := run(t, t.Context(), append(tt.args, "--nats", nats)...)
			if code != 0 {
				t.Fatalf("exit code %d: %s%s", code, out, errs)
			}
			for _, w := range tt.want {
				if !strings.Contains(out, w) {
					t.Errorf("%q is not in\n%s", w, out)
				}
			}
		})
	}
	t.Run("port taken", func(t *testing.T) {
		code, _, errs := run(t, t.Context(), "up", "--config", site(t, ""), "--port", port, "--data-dir", t.TempDir(), "--for", "1s")
		if code != ExitFailed || !strings.Contains(errs, "port is taken") || !strings.Contains(errs, "--port") {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("camera:\n  - nam: x\ncameras:\n  - name: a b\n    url: http://x\n    fps: 9000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"help", []string{"--help"}, 0, nil},
		{"completion", []string{"completion", "bash"}, 0, nil},
		{"unknown flag", []string{"up", "--fro", "1s"}, ExitUsage, []string{"unknown flag: --fro"}},
		{"lint reports everything at once", []string{"lint", "-c", bad}, ExitUsage, []string{"bad.yaml:1", "bad.yaml:4", "bad.yaml:5", "bad.yaml:6"}},
		{"unknown command", []string{"nonsense"}, ExitUsage, []string{"unknown command"}},
		{"too many arguments", []string{"lint", "extra"}, ExitUsage, nil},
		{"no images", []string{"detect"}, ExitUsage, nil},
		{"bad server", []string{"ledger", "--nats", "nats://u:hunter2 x@127.0.0.1:4222"}, ExitUsage, []string{"--nats"}},
		{"no file", []string{"up", "-c", filepath.Join(dir, "none.yaml")}, ExitUsage, []string{"none.yaml"}},
		{"no server", []string{"ledger", "--nats", "nats://user:hunter2@127.0.0.1:1"}, ExitFailed, []string{"no NATS server at", "sightline up"}},
		{"no model", []string{"detect", "x.png"}, ExitUsage, []string{"--model is missing"}},
		{"unknown model", []string{"detect", "--models", "../../../models", "--model", "nobody", "x.png"}, ExitUsage, []string{"nobody"}},
		{"bad time", []string{"predictions", "--since", "yesterday", "--nats", "nats://127.0.0.1:1"}, ExitUsage, []string{"yesterday"}},
		{"negative time", []string{"up", "--for", "-5s"}, ExitUsage, []string{"--for"}},
		{"bench without footage", []string{"bench", "--footage", ""}, ExitUsage, []string{"--footage"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, errs := run(t, t.Context(), tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, errs)
			}
			for _, w := range tt.want {
				if !strings.Contains(errs, w) {
					t.Errorf("%q is not in\n%s", w, errs)
				}
			}
			if strings.Contains(errs, "hunter2") {
				t.Errorf("shows a password: %s", errs)
			}
		})
	}
}

func TestLintAsJSON(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("cameras:\n  - name: a b\n    url: http://x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, t.Context(), "lint", "--json", "-c", bad)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != ExitUsage || len(lines) < 2 || !strings.Contains(errs, "problems") {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	for _, l := range lines {
		var p struct {
			Line    int
			Message string
		}
		if err := json.Unmarshal([]byte(l), &p); err != nil || p.Line == 0 || p.Message == "" {
			t.Errorf("%s: %v", l, err)
		}
	}
}

func TestUpFailsWhenNothingIsPredicted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sightline.yaml")
	models, err := filepath.Abs("../../../models")
	if err != nil {
		t.Fatal(err)
	}
	text := "models: " + models + "\ncameras:\n  - {name: gone, url: 'rtsp://127.0.0.1:" + freePort(t) + "/x', model: person}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, t.Context(), "up", "-c", file, "--port", "-1", "--data-dir", t.TempDir(), "--for", "6s")
	if code != ExitNothing || !strings.Contains(out, "refused") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestAKeyThatIsNoKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "operator.nk")
	if err := os.WriteFile(path, []byte("SUhunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--nkey", path}, {"--nkey", "/nowhere/operator.nk"}, {"--nats-ca", "/nowhere/ca.pem"}} {
		code, _, errs := run(t, t.Context(), append([]string{"workers"}, args...)...)
		if code != ExitUsage || !strings.Contains(errs, args[1]) || strings.Contains(errs, "hunter2") {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
}
