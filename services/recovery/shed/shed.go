package shed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

const (
	lookEvery  = 500 * time.Millisecond
	putTimeout = 2 * time.Second
)

// Fleet says who works; *fleet.View does.
type Fleet interface {
	Living(service string) map[string]fleet.Seen
	Hears() bool
}

var _ Fleet = (*fleet.View)(nil)

// Teller takes events; *events.Publisher is one.
type Teller interface{ Tell(e events.Event) }

// Config describes a Shedder.
type Config struct {
	JS         jetstream.JetStream
	Fleet      Fleet
	Leadership lease.Leadership
	Events     Teller
	Log        *slog.Logger
	// Every is how often the system is looked at; 0 means twice a second.
	Every  time.Duration
	Tuning Tuning
}

// Shedder is a leader's duty: it decides about sampling.
type Shedder struct {
	cfg        Config
	probe      *probe
	controller *Controller

	untold  *Decision // not written yet
	written time.Time
}

// New makes a Shedder; Run runs it, once.
func New(cfg Config) *Shedder {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Every == 0 {
		cfg.Every = lookEvery
	}
	return &Shedder{cfg: cfg, probe: newProbe(cfg.JS, cfg.Fleet)}
}

// Run decides until ctx ends. What it decided stays: the next leader goes on from there, and without one it expires. It
// returns an error when it cannot begin, or when somebody else leads.
func (s *Shedder) Run(ctx context.Context) error {
	cameras, err := catalog.FollowCameras(ctx, s.cfg.JS, s.cfg.Log)
	if err != nil {
		return fmt.Errorf("shed: %w", err)
	}
	view, err := sampling.Follow(ctx, s.cfg.JS, s.cfg.Log)
	if err != nil {
		return fmt.Errorf("shed: %w", err)
	}
	held, _ := view.State()
	s.controller = NewController(s.cfg.Tuning, held.Share)
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		all, _ := cameras.All()
		s.look(ctx, all)
		if err := s.write(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("shed: %w", err)
		}
	}
}

// look takes a sample and notes what is decided.
func (s *Shedder) look(ctx context.Context, all map[string]catalog.Entry[config.Camera]) {
	cameras := lowerable(all)
	sample, err := s.probe.sample(ctx, cameras, models(cameras, s.controller.Shares()))
	if err != nil {
		s.controller.Forget()
		return
	}
	if d := s.controller.Step(time.Now(), sample); d.Changed {
		s.untold = &d
	}
}

// models is how many models look at a frame, on average.
func models(cameras []Camera, now sampling.Shares) float64 {
	var frames, tensors float64
	for _, c := range cameras {
		fps := c.FPS
		if fps == 0 {
			fps = unsetRate
		}
		rate := sampling.Rate(fps, now.Of(c.Priority))
		frames, tensors = frames+rate, tensors+rate*float64(len(c.Models))
	}
	if frames == 0 {
		return 1
	}
	return tensors / frames
}

// write writes what is decided and not written, and renews what must not expire. While the broker is away it tries again with
// the next look. It returns an error when somebody else leads.
func (s *Shedder) write(ctx context.Context) error {
	shares := s.controller.Shares()
	if s.untold == nil && (shares.Full() || time.Since(s.written) < sampling.RenewEvery) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	err := s.cfg.Leadership.Confirm(ctx)
	if err == nil {
		err = sampling.Put(ctx, s.cfg.JS, shares, s.cfg.Leadership.Token())
	}
	switch {
	case err == nil:
		s.written = time.Now()
		s.tell("done")
	case errors.Is(err, sampling.ErrStale), errors.Is(err, lease.ErrLost):
		s.tell("refused: " + err.Error())
		return err
	}
	return nil
}

// tell tells of a change.
func (s *Shedder) tell(outcome string) {
	d := s.untold
	if d == nil {
		return
	}
	s.untold = nil
	state := "raised"
	switch {
	case d.Lowered:
		state = "lowered"
	case d.Shares.Full():
		state = "full"
	}
	e := events.Event{
		Area: "recovery", Kind: "sampling", Name: sampling.Key, State: state, Cause: string(d.Cause),
		Facts: map[string]string{
			"action": "set sampling", "subject": streams.SamplingBucket + "/" + sampling.Key,
			"shares": text(d.Shares), "duration_ms": strconv.FormatInt(time.Since(d.Since).Milliseconds(), 10),
			"outcome": outcome, "token": strconv.FormatUint(s.cfg.Leadership.Token(), 10),
		},
	}
	if g := d.Group; g.Name != "" {
		e.Facts["group"] = g.Name
		e.Facts["workers"] = strconv.Itoa(g.Workers)
		e.Facts["busy"] = strconv.FormatFloat(g.Busy, 'f', 2, 64)
		e.Facts["pending"] = strconv.Itoa(g.Waiting)
		e.Facts["held"] = strconv.Itoa(g.Held)
		e.Facts["answered_per_s"] = strconv.FormatFloat(g.Answered, 'f', 1, 64)
	}
	if d.Capacity > 0 {
		e.Facts["capacity_per_s"] = strconv.FormatFloat(d.Capacity, 'f', 1, 64)
	}
	s.cfg.Events.Tell(e)
}

// text is the share of every priority, as 1:0.05 2:0.1.
func text(s sampling.Shares) string {
	if s.Full() {
		return "all:1"
	}
	parts := make([]string, 0, len(s))
	for _, p := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, strconv.Itoa(p)+":"+strconv.FormatFloat(s[p], 'f', -1, 64))
	}
	return strings.Join(parts, " ")
}
