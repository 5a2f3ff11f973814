package machine_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/machine"
)

func start(t *testing.T) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel
}

func scrape(tel *telemetry.Telemetry) string {
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func TestTheProcessAndItsMachine(t *testing.T) {
	tel := start(t)
	state := filepath.Join(t.TempDir(), "hunter2")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	machine.Observe(tel, state)
	text := scrape(tel)
	for _, want := range []string{
		"process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds ", "process_start_time_seconds ", "process_threads ",
		"go_goroutines ", "go_memstats_heap_alloc_bytes ", "go_memstats_next_gc_bytes ", "go_memstats_sys_bytes ", "go_memstats_alloc_bytes_total ",
		"go_gc_cycles_total ", "go_sched_gomaxprocs_threads ",
		`sightline_host_cpu_seconds_total{mode="idle"} `, "sightline_host_memory_total_bytes ", "sightline_host_memory_available_bytes ",
		`sightline_host_network_receive_bytes_total{device="lo"} `, `sightline_host_network_transmit_bytes_total{device="lo"} `,
		`sightline_host_filesystem_size_bytes{mountpoint="data"} `, `sightline_host_filesystem_available_bytes{mountpoint="data"} `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("not exported: %s", want)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("a path is exported")
	}
}

type fake []machine.Device

func (f fake) Devices() []machine.Device { return f }

func TestGPUs(t *testing.T) {
	tel := start(t)
	machine.ObserveGPUs(t.Context(), tel, func() (machine.GPUs, error) {
		return fake{
			{Name: "NVIDIA H200", UUID: "GPU-1", Values: map[telemetry.Name]float64{telemetry.GPUUtilization: 97, telemetry.GPUEnergy: 12}},
			{Name: "NVIDIA H200", UUID: "GPU-2", Values: map[telemetry.Name]float64{telemetry.GPUUtilization: 3}},
		}, nil
	}, slog.New(slog.DiscardHandler))
	text := scrape(tel)
	for _, want := range []string{
		`DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1",gpu="0",modelName="NVIDIA H200"} 97`, `DCGM_FI_DEV_GPU_UTIL{UUID="GPU-2",gpu="1",modelName="NVIDIA H200"} 3`,
		`DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{UUID="GPU-1",gpu="0",modelName="NVIDIA H200"} 12`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("not exported: %s\n%s", want, text)
		}
	}
}

func TestNoGPUIsSaidOnce(t *testing.T) {
	var log strings.Builder
	tel := start(t)
	machine.ObserveGPUs(t.Context(), tel, func() (machine.GPUs, error) { return nil, errors.New("no library") }, slog.New(slog.NewTextHandler(&log, nil)))
	if text := scrape(tel) + scrape(tel); strings.Contains(text, "DCGM") {
		t.Error(text)
	}
	if strings.Count(log.String(), "no GPU is measured") != 1 {
		t.Error(log.String())
	}
}
