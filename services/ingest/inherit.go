package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// adopt takes over the gap that a predecessor left. A broker that does not answer is asked again.
func (s *Service) adopt(ctx context.Context, cfg config.Camera, predecessor lease.Holder, gaps *gapTeller) {
	for ; ctx.Err() == nil; clock.Pause(ctx, claimAgain) {
		asking, cancel := context.WithTimeout(ctx, claimTimeout)
		silent, err := s.silence(asking, cfg, predecessor)
		var stream jetstream.Stream
		if err == nil {
			stream, err = s.deps.JS.Stream(asking, streams.Events)
		}
		if err == nil {
			err = gaps.adopt(asking, stream, silent)
		}
		cancel()
		if err == nil {
			return
		}
	}
}

// silence is since when nobody captures a camera whose lease was just had, if its predecessor did not give it back: since
// that one's last beat, or since its newest frame that was answered. It is zero when nobody ever captured it.
func (s *Service) silence(ctx context.Context, cfg config.Camera, predecessor lease.Holder) (time.Time, error) {
	if s.deps.Fleet != nil && predecessor.Instance != "" {
		w, known := s.deps.Fleet.All()[fleet.Worker{Service: "ingest", Instance: predecessor.Instance}.Key()]
		if known && w.Started.Before(predecessor.Since) { // else it is a process that came after
			return w.At, nil
		}
	}
	stream, err := s.deps.JS.Stream(ctx, streams.Predictions)
	if err != nil {
		return time.Time{}, fmt.Errorf("stream %s: %w", streams.Predictions, err)
	}
	var newest time.Time
	for _, m := range cfg.Models {
		msg, err := stream.GetLastMsgForSubject(ctx, streams.PredictionSubject(m, cfg.Name))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("last answer to %s: %w", cfg.Name, err)
		}
		if p, err := predictions.Decode(msg.Data); err == nil {
			at := p.CapturedAt
			if p.Gap != nil {
				at = p.Gap.To
			}
			if at.After(newest) {
				newest = at
			}
		}
	}
	return newest, nil
}
