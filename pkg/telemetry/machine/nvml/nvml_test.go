package nvml

import (
	"maps"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sightline-dev/sightline/pkg/telemetry"
)

// A library with the driver's names and conventions is called as the driver would be. It checks what it is given.
func TestAgainstALibrary(t *testing.T) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Fatal("no C compiler (Debian package gcc)")
	}
	file := filepath.Join(t.TempDir(), library)
	if out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", file, filepath.Join("testdata", "nvml.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	all := l.Devices()
	if len(all) != 2 || all[0].Name != "Stand-in 0" || all[1].UUID != "GPU-00000001" {
		t.Fatalf("%+v", all)
	}
	for i, d := range all {
		n := float64(i)
		want := map[telemetry.Name]float64{
			telemetry.GPUSMClock: 1400 + n, telemetry.GPUMemClock: 2600 + n, telemetry.GPUTemperature: 40 + n, telemetry.GPUPower: 123.5,
			telemetry.GPUEnergy: 5000000000, telemetry.GPUUtilization: 90 + n, telemetry.GPUMemCopyUtilization: 30,
			telemetry.GPUEncUtilization: 7, telemetry.GPUMemFree: 100, telemetry.GPUMemUsed: 40, telemetry.GPUMemReserved: 2,
			telemetry.GPUPCIeReplays: 3,
		} // it has no nvmlDeviceGetDecoderUtilization
		if !maps.Equal(d.Values, want) {
			t.Errorf("GPU %d: %v, want %v", i, d.Values, want)
		}
	}
}

func TestNoLibrary(t *testing.T) {
	if _, err := open(filepath.Join(t.TempDir(), library)); err == nil {
		t.Error("opened")
	}
}
