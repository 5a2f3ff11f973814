// Package bench measures this machine: the whole pipeline over JetStream against a plain loop in one process, on the
// same footage, model and cores, alternating in one run; and how old predictions are when they arrive.
package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/adapters"
)

// Loop is the yardstick: decode, scale and infer in one goroutine per core, no messages, no durability.
func Loop(ctx context.Context, footage *camera.Footage, m *infer.Model, d time.Duration) (Round, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var frames atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, runtime.GOMAXPROCS(0))
	start, used := time.Now(), cpu()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() { errs <- loop(ctx, footage, m, &frames) })
	}
	wg.Wait()
	close(errs)
	for e := range errs {
		if e != nil {
			return Round{}, e
		}
	}
	return Round{Frames: frames.Load(), Took: time.Since(start), CPU: cpu() - used}, nil
}

func loop(ctx context.Context, footage *camera.Footage, m *infer.Model, frames *atomic.Int64) error {
	in := m.Artifact().Declaration.Input
	rgb := make([]byte, in.Width*in.Height*3)
	decoder, err := adapters.NewDecoder(ingest.Codec(footage.Codec))
	if err != nil {
		return err
	}
	defer decoder.Close()
	for ctx.Err() == nil {
		for u := range footage.Pictures() {
			if ctx.Err() != nil {
				return nil
			}
			picture, err := decoder.Decode(unit(footage, u, 0))
			if err != nil {
				return fmt.Errorf("decode: %w", err)
			}
			if picture == nil {
				continue
			}
			if err := picture.RGB(rgb, in.Width, in.Height); err != nil {
				return fmt.Errorf("scale: %w", err)
			}
			w, h := picture.Size()
			t := infer.Tensor{Data: rgb, Transform: model.Scaling(in.Width, in.Height, w, h), SourceW: w, SourceH: h}
			if _, err := m.Infer(context.WithoutCancel(ctx), []infer.Tensor{t}); err != nil {
				return err
			}
			frames.Add(1)
		}
	}
	return nil
}

// unit is one coded picture as an RTSP session would deliver it, base later than its own time.
func unit(f *camera.Footage, u camera.CodedPicture, base time.Duration) ingest.AccessUnit {
	return ingest.AccessUnit{Codec: ingest.Codec(f.Codec), Data: u.Data, PTS: base + u.PTS, Received: time.Now(), Key: u.Key}
}
