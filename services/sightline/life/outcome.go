package life

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/dlq"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

// outage is how much later than it happened something may have been stored.
const outage = time.Minute

// readDLQ looks for the frame among quarantined messages.
func (t *teller) readDLQ(ctx context.Context) error {
	f := dlq.Filter{Camera: t.name.Camera}
	if len(t.mentioned) > 0 {
		f.Since = t.mentioned[0].Add(-outage)
	}
	entries, err := dlq.List(ctx, t.js, f)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Frame != t.life.Frame {
			continue
		}
		t.life.DeadLetter = append(t.life.DeadLetter, DeadLetter{
			Sequence: e.Sequence, At: e.At, Stage: e.Stage, Model: e.Model, Version: e.Version, Reason: e.Reason, Attempts: e.Attempts, Replayed: e.Replayed,
		})
		t.life.Steps = append(t.life.Steps, Step{
			Earliest: e.At, Latest: e.At, Source: streams.DLQ, Stage: e.Stage, What: "quarantined", Model: e.Model, rank: rankFate,
			Detail: fmt.Sprintf("%s (attempt %d%s): sightline dlq show %d", e.Reason, e.Attempts, of(e.Version), e.Sequence),
		})
		full, err := dlq.Get(ctx, t.js, e.Sequence)
		if errors.Is(err, dlq.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		t.headers(full.Header)
	}
	return nil
}

func of(version string) string {
	if version == "" {
		return ""
	}
	return ", " + version
}

// headers notes what the headers of a message of the frame say.
func (t *teller) headers(h nats.Header) {
	get := func(key string) string {
		if v := h[key]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	if parts := strings.Split(get(frame.HeaderTrace), "-"); len(parts) == 4 && t.life.TraceID == "" {
		t.life.TraceID = parts[1]
	}
	if ns, err := strconv.ParseInt(get(frame.HeaderCaptured), 10, 64); err == nil && ns > 0 && t.life.CapturedAt.IsZero() {
		t.life.CapturedAt = time.Unix(0, ns).UTC()
	}
}

// readPredictions looks for answers to the frame, where the ledger says that it lived.
func (t *teller) readPredictions(ctx context.Context) error {
	cfg := jetstream.ConsumerConfig{HeadersOnly: true, FilterSubject: streams.PredictionSubject("*", t.name.Camera)}
	var until time.Time
	switch {
	case len(t.mentioned) > 0:
		from := slices.MinFunc(t.mentioned, time.Time.Compare).Add(-2*t.pace - outage)
		until = slices.MaxFunc(t.mentioned, time.Time.Compare).Add(outage)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	case t.edge.known && t.edge.last.compare(t.name.Epoch, t.name.Seq) > 0: // it may just have been answered, and not been told of
		from := t.edge.last.at.Add(-outage)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	case t.edge.known && t.edge.first.compare(t.name.Epoch, t.name.Seq) < 0: // older than what LEDGER remembers
		until = t.edge.first.at.Add(outage)
	}
	var found []uint64
	err := streams.Scan(ctx, t.js, streams.Predictions, cfg, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		if v := m.Headers()[frame.HeaderName]; len(v) > 0 && v[0] == t.life.Frame {
			found = append(found, meta.Sequence.Stream)
		}
		return until.IsZero() || !meta.Timestamp.After(until)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", streams.Predictions, err)
	}
	if len(found) == 0 {
		return nil
	}
	s, err := t.js.Stream(ctx, streams.Predictions)
	if err != nil {
		return fmt.Errorf("stream %s: %w", streams.Predictions, err)
	}
	for _, seq := range found {
		m, err := s.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", streams.Predictions, err)
		}
		t.takeAnswer(m)
	}
	return nil
}

func (t *teller) takeAnswer(m *jetstream.RawStreamMsg) {
	p, err := predictions.Decode(m.Data)
	if err != nil {
		t.unknown("message %d of %s names the frame and cannot be read: %v", m.Sequence, streams.Predictions, err)
		return
	}
	t.headers(m.Header)
	t.life.CapturedAt = p.CapturedAt.UTC()
	t.life.Answers = append(t.life.Answers, Answer{Sequence: m.Sequence, StoredAt: m.Time.UTC(), Prediction: p})
	t.life.Steps = append(t.life.Steps,
		Step{
			Earliest: p.PredictedAt, Latest: p.PredictedAt, Source: streams.Predictions, Stage: "infer", What: "answered", Model: p.Model, rank: rankFate,
			Detail: fmt.Sprintf("%s@%s, lane %s, attempt %d, batch of %d, status %s, %d detections", p.Model, p.Version, p.Lane, max(p.Attempt, 1), max(p.BatchSize, 1), p.Status, len(p.Detections)),
		},
		Step{
			Earliest: m.Time, Latest: m.Time, Source: streams.Predictions, What: "stored", Model: p.Model, rank: rankOther,
			Detail: "message " + strconv.FormatUint(m.Sequence, 10) + " of " + streams.Predictions,
		})
}

// MarshalJSON is that of an answer's own fields and of the prediction as applications get it.
func (a Answer) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Sequence   uint64                 `json:"sequence"`
		StoredAt   time.Time              `json:"stored_at"`
		Prediction predictions.Prediction `json:"prediction"`
	}{a.Sequence, a.StoredAt, a.Prediction})
}

// readEvents looks for what happened to the camera, and to the workers who had the frame, in its time.
func (t *teller) readEvents(ctx context.Context) error {
	from, until := t.span()
	if from.IsZero() {
		return nil
	}
	camera := func(kind string) string { return streams.EventSubject("camera", kind, t.name.Camera) }
	var state *events.Event
	err := t.scanEvents(ctx, time.Time{}, from, []string{camera("state"), camera("lease")}, func(e events.Event) {
		switch {
		case e.Kind == "lease" && e.Facts["epoch"] == strconv.FormatUint(t.name.Epoch, 10):
			t.takeEvent(e)
		case e.Kind == "state":
			state = &e
		}
	})
	if err != nil {
		return err
	}
	if state != nil {
		t.takeEvent(*state)
	}
	return t.scanEvents(ctx, from, until, []string{
		camera("*"), streams.EventSubject("worker", "*", "*"), streams.EventSubject("recovery", "*", "*"), streams.EventSubject("drift", "*", t.name.Camera),
	}, func(e events.Event) {
		if t.concerns(e) {
			t.takeEvent(e)
		}
	})
}

// span is the time of the frame's life, as far as it is known.
func (t *teller) span() (from, until time.Time) {
	for _, s := range t.life.Steps {
		if from.IsZero() || s.Earliest.Before(from) {
			from = s.Earliest
		}
		if s.Latest.After(until) {
			until = s.Latest
		}
	}
	if from.IsZero() {
		return from, until
	}
	return from.Add(-told), until.Add(told)
}

func (t *teller) scanEvents(ctx context.Context, from, until time.Time, subjects []string, take func(events.Event)) error {
	cfg := jetstream.ConsumerConfig{FilterSubjects: subjects}
	if !from.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	err := streams.Scan(ctx, t.js, streams.Events, cfg, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		if !until.IsZero() && meta.Timestamp.After(until) {
			return false
		}
		if e, err := events.Decode(m.Data()); err == nil {
			take(e)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", streams.Events, err)
	}
	return nil
}

// concerns says whether an event of the frame's time is about its camera, or about somebody who had the frame.
func (t *teller) concerns(e events.Event) bool {
	if e.Area == "camera" && e.Kind == "lease" {
		return e.Facts["epoch"] == strconv.FormatUint(t.name.Epoch, 10)
	}
	if e.Area == "camera" || e.Area == "drift" || e.Name == t.name.Camera {
		return true
	}
	if e.Area == "recovery" && slices.Contains(strings.Split(e.Facts["cameras"], ","), t.name.Camera) {
		return true
	}
	for h := range t.hands {
		if h.instance == e.Name && (e.Facts["service"] == "" || e.Facts["service"] == h.stage) {
			return true
		}
	}
	return false
}

func (t *teller) takeEvent(e events.Event) {
	text := make([]string, 0, 4)
	for _, s := range []string{e.State, e.Cause, e.Detail} {
		if s != "" {
			text = append(text, s)
		}
	}
	if action := e.Facts["action"]; action != "" {
		text = append(text, action)
	}
	t.life.Steps = append(t.life.Steps, Step{
		Earliest: e.At, Latest: e.At, Source: streams.Events, Instance: e.Name, What: e.Area + "/" + e.Kind, Detail: strings.Join(text, ": "), rank: rankOther,
	})
}
