// Package preprocess turns frames into model input: a JPEG comes in, and for each model that shall look at it one
// tensor goes out, cut, scaled, padded and in the model's colour order, with the figures of what the model saw.
//
// # Delivery
//
// The stage runtime (pkg/stage) owns pulling, publishing and acknowledging. This package decides a frame's fate:
//
//   - a frame past its deadline is dropped as expired before any of its pixels is touched;
//   - a frame that an instance of ingest captured after another one had taken the camera over is dropped as superseded,
//     old_epoch: the new owner's frames show the same. Its epoch tells it, and the lease says since when;
//   - headers that frame.Decode refuses, headers of another camera than the subject's, and a picture that cannot be
//     decoded are poison: the frame is quarantined at once, with its payload;
//   - a model that is not declared yet, or whose input size is not known yet, makes the frame come back half a second
//     later; none of its tensors is published before all can be;
//   - otherwise every model's tensor is stored, under the id <frame>/<model>/<lane>, before the frame is done. A
//     redelivered frame therefore yields no second tensor within the stream's duplicate window.
//
// A frame is decoded once and measured once, however many models look at it. A box in a tensor's pixels maps to the
// camera's own picture with the transform in the tensor's headers, whatever ingest scaled before.
//
// # Concurrency
//
// Workers frames are at work at the same time, each on one thread. The buffers of tensors are used again: an Output is
// valid until the observer's Done returns.
//
// # Shutdown
//
// See pkg/stage: what was fetched is finished.
package preprocess

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// Name is the service's name: in ledger records, DLQ subjects and worker names.
const Name = "preprocess"

// Deps are what the service is built from. Observer and Log may be nil.
type Deps struct {
	JetStream jetstream.JetStream
	Models    Models
	Imager    Imager
	// Owners tells late frames of a camera's earlier owner; nil asks nobody.
	Owners Owners
	// Observer is told the fates of frames; see NewObserver. It must not keep an Output's Data.
	Observer stage.Observer
	// Member is this process's place in the fleet; nil is none.
	Member *fleet.Member
	// Stuck is told that handlers do not return: only the end of the process helps. May be nil.
	Stuck func(error)
	// Telemetry counts and traces; nil does not.
	Telemetry *telemetry.Telemetry
	Log       *slog.Logger
}

// New makes the stage; it starts nothing.
func New(cfg Config, d Deps) (*stage.Stage, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	if d.JetStream == nil || d.Models == nil || d.Imager == nil {
		return nil, errors.New(Name + ": Deps need JetStream, Models and Imager")
	}
	h := NewHandler(d.Models, d.Imager, d.Owners)
	config := stage.Config{
		Name:         Name,
		Sources:      streams.Preprocess(d.JetStream),
		Publisher:    broker.NewFailover(d.JetStream),
		Strikes:      d.JetStream,
		Observer:     recycler{next: d.Observer, handler: h},
		Telemetry:    d.Telemetry,
		Log:          d.Log,
		Quarantine:   func(m stage.Message) string { return streams.DLQSubject(Name, streams.LastToken(m.Subject)) },
		Identity:     identity,
		Workers:      cfg.workers(),
		MaxAttempts:  cfg.MaxAttempts,
		Timeout:      cfg.Timeout,
		DrainTimeout: cfg.DrainTimeout,
		Stuck:        d.Stuck,
	}
	if d.Member != nil {
		config.Member = d.Member
	}
	st := stage.New(config, stage.Each(h.Handle))
	if d.Member != nil {
		var meter fleet.BusyMeter
		d.Member.Describe(func(w *fleet.Worker) {
			w.Capacity = cfg.workers()
			w.Load.Busy = meter.Share(st.Stats().Busy, cfg.workers())
		})
	}
	return st, nil
}

// identity is the frame's name, or for a message without a valid one its place in the stream and time.
func identity(m stage.Message) string {
	if name, ok := nameOf(m); ok {
		return name.String()
	}
	return fmt.Sprintf("%s/%d/%d", m.Stream, m.Sequence, m.Stored.UnixNano())
}

func nameOf(m stage.Message) (frame.Name, bool) {
	v := m.Header[frame.HeaderName]
	if len(v) == 0 {
		return frame.Name{}, false
	}
	name, err := frame.ParseName(v[0])
	return name, err == nil
}
