package machine

import (
	"context"
	"log/slog"
	"strconv"

	"github.com/sightline-dev/sightline/pkg/telemetry"
)

// Device is a GPU at a moment. What it does not tell is missing from its values.
type Device struct {
	Name, UUID string
	Values     map[telemetry.Name]float64
}

// GPUs is what a driver knows of them. Both methods may be called by several at the same time.
type GPUs interface{ Devices() []Device }

// ObserveGPUs tells t of all GPUs whenever somebody collects, under the names that NVIDIA's exporter has for the same. It says
// once when there are none.
func ObserveGPUs(ctx context.Context, t *telemetry.Telemetry, open func() (GPUs, error), log *slog.Logger) {
	driver, err := open()
	if err != nil {
		log.InfoContext(ctx, "no GPU is measured", slog.Any("why", err))
		return
	}
	t.Collect(func(g *telemetry.Reading) {
		for i, d := range driver.Devices() {
			for name, v := range d.Values {
				g.Set(name, v, strconv.Itoa(i), d.UUID, d.Name)
			}
		}
	})
}
