package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/sightline-dev/sightline/chaos/poison"
	"github.com/sightline-dev/sightline/chaos/world"
	"github.com/sightline-dev/sightline/streams"
)

func operators() []Fault {
	return []Fault{
		{Name: "delete-consumer", Title: "operator deletes a consumer", World: world.Single, Rounds: 3, Target: 10 * time.Second, Weight: 2, Inject: deleteConsumer},
		{Name: "purge-stream", Title: "operator purges a stream", World: world.Single, Rounds: 3, Target: 10 * time.Second, Weight: 1, Drops: true, Inject: purgeStream},
		{Name: "delete-stream", Title: "operator deletes a stream", World: world.Single, Rounds: 3, Target: 10 * time.Second, Weight: 1, Drops: true, Inject: deleteStream},
	}
}

// inferGroup is the work group of the infer workers of the model that every camera feeds.
const inferGroup = "infer-" + world.Model + "-" + string(streams.LaneStable)

func deleteConsumer(ctx context.Context, r *Round) error {
	group := pick(r, [][2]string{
		{streams.Frames, "preprocess"}, {streams.FramesLive, "preprocess"}, {streams.Tensors, inferGroup}, {streams.TensorsLive, inferGroup},
	})
	at := r.Mark("delete consumer " + group[1] + " of " + group[0])
	reported(r, at, group[0], group[1])
	return r.World.JS.DeleteConsumer(ctx, group[0], group[1])
}

// reported expects an event of recovery that names all of these words.
func reported(r *Round, since time.Time, words ...string) {
	r.Expect(Expectation{
		What: "an event of recovery that names " + strings.Join(words, " and "), Within: 15 * time.Second, Since: since, Figure: "reported",
		Met: func() (time.Time, bool) {
			for _, e := range r.World.Seen.Events(since) {
				text := fmt.Sprint(e.Name, e.Kind, e.State, e.Cause, e.Detail, e.Facts)
				if e.Area != "recovery" {
					continue
				}
				all := true
				for _, w := range words {
					all = all && strings.Contains(text, w)
				}
				if all {
					return e.Arrived, true
				}
			}
			return time.Time{}, false
		},
	})
}

// burst is how many frames are put into a stream that is about to be purged.
const burst = 40

// purgeStream purges a stream while messages wait in it: those who would take them are stopped for a moment, shorter than
// what they are declared dead for.
func purgeStream(ctx context.Context, r *Round) error {
	stream, service := streams.Frames, world.Preprocess
	if r.Rand.IntN(2) == 0 {
		stream, service = streams.Tensors, world.Infer
	}
	s, err := r.World.JS.Stream(ctx, stream)
	if err != nil {
		return err
	}
	picture, err := poison.Picture(poison.Harmless, r.World.Stranger.Width, r.World.Stranger.Height, r.Rand)
	if err != nil {
		return err
	}
	var stopped, failed error
	for _, x := range r.World.Of(service) {
		stopped = errors.Join(stopped, x.Signal(syscall.SIGSTOP))
	}
	for i := 0; i < burst && failed == nil; i++ {
		_, failed = r.World.Stranger.Send(ctx, picture)
	}
	if service == world.Infer {
		failed = errors.Join(failed, last(ctx, 150*time.Millisecond)) // until they are tensors
	}
	info, err := s.Info(ctx)
	failed = errors.Join(failed, err)
	at := r.Mark("purge " + stream)
	failed = errors.Join(failed, s.Purge(ctx))
	for _, x := range r.World.Of(service) {
		stopped = errors.Join(stopped, x.Signal(syscall.SIGCONT))
	}
	if err := errors.Join(failed, stopped); err != nil {
		return err
	}
	r.Note("%d messages were in %s", info.State.Msgs, stream)
	reported(r, at, stream)
	return nil
}

// deleteStream deletes a stream that messages are passing through.
func deleteStream(ctx context.Context, r *Round) error {
	stream := pick(r, []string{streams.FramesLive, streams.TensorsLive, streams.Frames, streams.Tensors})
	at := r.Mark("delete stream " + stream)
	reported(r, at, stream)
	return r.World.JS.DeleteStream(ctx, stream)
}
