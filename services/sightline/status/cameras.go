package status

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// lastEvents are the newest events of some subjects, one for each name and kind.
func lastEvents(ctx context.Context, js jetstream.JetStream, subjects ...string) ([]events.Event, error) {
	var out []events.Event
	cfg := jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: subjects}
	err := streams.Scan(ctx, js, streams.Events, cfg, false, func(m jetstream.Msg, _ *jetstream.MsgMetadata) bool {
		if e, err := events.Decode(m.Data()); err == nil {
			out = append(out, e)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", streams.Events, err)
	}
	return out, nil
}

// readCameras reads what is wanted of cameras, what was told of them last, and the newest answers.
func (r *reader) readCameras(ctx context.Context, holders map[string]lease.Holder) error {
	wanted, unreadable, err := catalog.Cameras(ctx, r.js)
	if err != nil {
		return err
	}
	told, err := lastEvents(ctx, r.js, streams.EventSubject("camera", "state", "*"))
	if err != nil {
		return err
	}
	states := map[string]events.Event{}
	for _, e := range told {
		states[e.Name] = e
	}
	answers, err := r.latest(ctx)
	if err != nil {
		return err
	}
	cameras := make([]Camera, 0, len(wanted)+len(unreadable))
	for _, name := range unreadable {
		cameras = append(cameras, Camera{Name: name, Enabled: true, State: stateUnreadable})
	}
	for _, c := range wanted {
		cam := Camera{Name: c.Name, Enabled: c.Enabled, State: stateUnclaimed, Delivery: c.Delivery, FPS: float64(c.FPS), Answers: []LastAnswer{}}
		if !c.Enabled {
			cam.State = stateDisabled
		}
		if h, ok := holders[c.Name]; ok {
			cam.Holder = h.Instance
			if e, ok := states[c.Name]; ok {
				cam.State, cam.Cause, cam.Since = e.State, e.Cause, e.At
			}
		}
		for _, m := range c.Models {
			a := answers[[2]string{m, c.Name}]
			a.Model = m
			cam.Answers = append(cam.Answers, a)
		}
		cameras = append(cameras, cam)
	}
	r.system.Cameras = cameras
	return nil
}

// States of a camera beside those that its ingest tells.
const (
	stateLive       = "live"
	stateUnclaimed  = "unclaimed"
	stateDisabled   = "disabled"
	stateUnreadable = "unreadable settings"
)

// latest are the newest answers, by model and camera.
func (r *reader) latest(ctx context.Context) (map[[2]string]LastAnswer, error) {
	client, err := predictions.Open(r.nc)
	if err != nil {
		return nil, err
	}
	out := map[[2]string]LastAnswer{}
	for m, err := range client.Latest(ctx, predictions.Filter{}) {
		if _, malformed := errors.AsType[*predictions.MalformedError](err); malformed {
			continue
		}
		if err != nil {
			return nil, err
		}
		p := m.Prediction
		a := LastAnswer{At: m.Time.UTC(), Status: string(p.Status)}
		if p.Kind == predictions.KindGap {
			if !p.Gap.To.IsZero() { // it is over, and nobody has answered since
				a.Status = ""
			} else {
				a.Gap = p.Gap.Reason
			}
		} else {
			a.AgeMS = float64(p.PredictedAt.Sub(p.CapturedAt).Microseconds()) / 1000
		}
		out[[2]string{p.Model, p.Camera}] = a
	}
	return out, nil
}
