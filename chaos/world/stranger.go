package world

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

// StrangerName is the camera whose frames the harness makes itself.
const StrangerName = "stranger"

// Stranger is a camera without a camera: it publishes pictures as an ingest would, under names and with records in the
// ledger, so that they count like all others. Every frame of it must be answered.
type Stranger struct {
	// Width and Height are those of pictures that the model takes as they are.
	Width, Height int

	js    jetstream.JetStream
	marks *ledger.Reporter
	epoch uint64

	mu  sync.Mutex
	seq uint64
}

// startStranger makes it, and reports for it until the end.
func (w *World) startStranger(life context.Context) error {
	a, err := (model.Repository{Dir: w.cfg.Models}).Open(Model)
	if err != nil {
		return fmt.Errorf("world: %w", err)
	}
	in := a.Declaration.Input
	s := &Stranger{
		Width: in.Width, Height: in.Height, js: w.JS, marks: ledger.NewReporter(w.JS, "ingest", StrangerName),
		epoch: uint64(time.Now().UnixMilli()),
	}
	s.marks.SetRoute(StrangerName, s.epoch, ledger.Route{Delivery: streams.EveryFrame, Models: []string{Model}})
	report, end := context.WithCancel(life)
	done := make(chan error, 1)
	go func() { done <- s.marks.Run(report) }()
	w.stop = append(w.stop, func() { end(); _ = <-done })
	w.Stranger = s
	return nil
}

// Send publishes a picture, as long as it takes.
func (s *Stranger) Send(ctx context.Context, jpeg []byte) (frame.Name, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	f := frame.Facts{
		Name: frame.Name{Camera: StrangerName, Epoch: s.epoch, Seq: s.seq}, Captured: time.Now(),
		SourceW: s.Width, SourceH: s.Height, Models: []string{Model},
	}
	s.marks.Add(f.Name, ledger.Captured, "", "")
	msg := &nats.Msg{Subject: streams.FrameSubject(streams.EveryFrame, StrangerName), Header: nats.Header{}, Data: jpeg}
	f.Encode(msg.Header)
	msg.Header[jetstream.MsgIDHeader] = []string{f.Name.String()}
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := s.js.PublishMsg(attempt, msg)
		cancel()
		if err == nil {
			s.marks.Add(f.Name, ledger.Published, "", "")
			return f.Name, nil
		}
		if !clock.Pause(ctx, 50*time.Millisecond) {
			return f.Name, fmt.Errorf("publish %s: %w", f.Name, err)
		}
	}
}
