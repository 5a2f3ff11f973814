package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// Kinds of incidents.
const (
	// WorkerEnded says that a worker was declared dead: what Stage and Instance had in hand at that time comes back to
	// its stream.
	WorkerEnded = "worker_ended"
	// StreamPurged says that an operator purged a stream, or deleted it: what it held of Filter, a subject that may have
	// wildcards ("" is everything), is gone.
	StreamPurged = "stream_purged"
)

// Incident is what befell more than one camera, and what no stage can report.
type Incident struct {
	Kind     string    `json:"kind"`
	Stage    string    `json:"stage,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Stream   string    `json:"stream,omitempty"`
	Filter   string    `json:"filter,omitempty"`
	At       time.Time `json:"at"`
}

// incidentMemory is how long an incident is looked at when records come; what it concerned by then is remembered.
const incidentMemory = 10 * time.Minute

// TellIncident puts an incident into LEDGER, once: whoever tells it again with the same time adds nothing.
func TellIncident(ctx context.Context, js Publisher, i Incident) error {
	i.At = i.At.UTC()
	data, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("incident %s: %w", i.Kind, err)
	}
	if _, err := decodeIncident(data); err != nil {
		return err
	}
	msg := nats.NewMsg(streams.IncidentSubject)
	msg.Data = data
	id := []string{"incident", i.Kind, i.Stage, i.Instance, i.Stream, i.Filter, strconv.FormatInt(i.At.UnixNano(), 36)}
	msg.Header.Set(jetstream.MsgIDHeader, strings.Join(id, "/"))
	if _, err := js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("tell incident %s: %w", i.Kind, err)
	}
	return nil
}

func decodeIncident(data []byte) (Incident, error) {
	var i Incident
	if err := json.Unmarshal(data, &i); err != nil {
		return i, fmt.Errorf("ledger incident: %w", err)
	}
	i.At = i.At.UTC().Round(0)
	switch { // kinds of newer versions are for newer versions
	case i.Kind == "" || i.At.IsZero():
		return i, errors.New("ledger incident: needs a kind and a time")
	case i.Kind == WorkerEnded && (i.Stage == "" || i.Instance == ""):
		return i, fmt.Errorf("ledger incident %s: needs a stage and an instance", i.Kind)
	case i.Kind == StreamPurged && i.Stream == "":
		return i, fmt.Errorf("ledger incident %s: needs a stream", i.Kind)
	}
	return i, nil
}

// ends says whether a worker that died had taken what is in a hand. A process that began later under the same name
// is another one.
func (i Incident) ends(h hand) bool {
	return i.Kind == WorkerEnded && i.Stage == h.stage && i.Instance == h.instance && h.run <= i.At.UnixMilli()
}

// purges says whether a camera's frames were in what was purged, or its tensors for a model. Model "" asks for frames.
func (i Incident) purges(d streams.Delivery, camera, model string) bool {
	if i.Kind != StreamPurged {
		return false
	}
	var subjects []string
	switch live := d != streams.EveryFrame; {
	case model == "" && (!live && i.Stream == streams.Frames || live && i.Stream == streams.FramesLive || live && i.Stream == streams.FramesTwin):
		subjects = []string{streams.FrameSubject(d, camera)}
	case model != "" && (!live && i.Stream == streams.Tensors || live && i.Stream == streams.TensorsLive || live && i.Stream == streams.TensorsTwin):
		for _, lane := range []streams.Lane{streams.LaneStable, streams.LaneCanary, streams.LaneShadow} { // the marks do not say which
			subjects = append(subjects, streams.TensorSubject(d, model, lane, camera))
		}
	default:
		return false
	}
	return slices.ContainsFunc(subjects, func(s string) bool {
		if i.Stream == streams.FramesTwin || i.Stream == streams.TensorsTwin {
			s, _ = streams.Twin(s)
		}
		return i.Filter == "" || covers(i.Filter, s)
	})
}

// covers says whether a subject filter has a subject.
func covers(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for n, token := range f {
		switch {
		case token == ">":
			return len(s) > n
		case n >= len(s) || token != "*" && token != s[n]:
			return false
		}
	}
	return len(f) == len(s)
}

// Befall adds an incident. As records, incidents may come in any order and more than once.
func (b *Books) Befall(i Incident) {
	i.At = i.At.UTC().Round(0) // one form: incidents are compared
	b.newest = later(b.newest, i.At)
	if i.Kind != WorkerEnded && i.Kind != StreamPurged || slices.Contains(b.incidents, i) || b.newest.Sub(i.At) > incidentMemory {
		return
	}
	b.incidents = append(b.incidents, i)
}

// process is the name of a worker, run is one of its lives: when it began, in Unix milliseconds, and when it was heard last.
type (
	process struct{ stage, instance string }
	run     struct {
		began int64
		heard time.Time
	}
)

// began notes a worker. One that follows another under its name says that the other is dead: perhaps nobody was there to
// declare that, because everything died.
func (b *Books) began(p process, r run) {
	if r.began == 0 {
		return
	}
	if b.runs == nil {
		b.runs = map[process]run{}
	}
	known := b.runs[p]
	if known.began != 0 && known.began != r.began {
		at := time.UnixMilli(max(known.began, r.began) - 1)
		if at.After(r.heard) { // by a clock that is ahead
			at = r.heard
		}
		b.Befall(Incident{Kind: WorkerEnded, Stage: p.stage, Instance: p.instance, At: at})
	}
	b.runs[p] = run{max(known.began, r.began), later(known.heard, r.heard)}
}

// forgetIncidents forgets those that no record can concern any more.
func (b *Books) forgetIncidents() {
	maps.DeleteFunc(b.runs, func(_ process, r run) bool { return b.newest.Sub(r.heard) > incidentMemory })
	b.incidents = slices.DeleteFunc(b.incidents, func(i Incident) bool { return b.newest.Sub(i.At) > incidentMemory })
}

// reached notes up to which frame an epoch had been captured when an incident happened: frames behind it have nothing to
// do with it. It must be called before the clock forgets. What reporters had seen by then may have come a little later.
func (e *epoch) reached(at moment, camera string, d streams.Delivery) {
	for _, i := range at.incidents {
		upTo := e.clock.by(i.At.Add(at.pace.late()))
		before := e.reach[i]
		if upTo <= max(e.final, before.upTo) || !e.concerns(i, camera, d) {
			continue
		}
		if e.reach == nil {
			e.reach = map[Incident]reach{}
		}
		e.reach[i] = reach{max(before.after, e.clock.heldAt(i.At)), upTo}
	}
}

// reach are the frames that an incident may concern.
type reach struct {
	after uint64 // those up to here were in nobody's hands any more when it happened: a death says nothing of them
	upTo  uint64
}

// inHandOfTheDead are the frames that a worker which died may have had in its hands.
func (e *epoch) inHandOfTheDead() Ranges {
	var out Ranges
	for i, n := range e.reach {
		if i.Kind == WorkerEnded {
			out.Add(n.after+1, n.upTo)
		}
	}
	return out
}

// hands are all who have, or had, a frame in hand.
func (e *epoch) hands() []hand {
	all := slices.Collect(maps.Keys(e.work.hands))
	for _, m := range e.models {
		all = slices.AppendSeq(all, maps.Keys(m.work.hands))
	}
	return all
}

func (e *epoch) concerns(i Incident, camera string, d streams.Delivery) bool {
	if i.Kind == StreamPurged {
		if i.purges(d, camera, "") {
			return true
		}
		for model := range e.models {
			if i.purges(d, camera, model) {
				return true
			}
		}
		return false
	}
	if e.work.hasHandOf(i) {
		return true
	}
	for _, m := range e.models {
		if m.work.hasHandOf(i) {
			return true
		}
	}
	return false
}

// purged is the last frame that a purge may have taken from the stream of frames, or of a model's tensors.
func (e *epoch) purged(d streams.Delivery, camera, model string) uint64 {
	var upTo uint64
	for i, n := range e.reach {
		if n.upTo > upTo && i.purges(d, camera, model) {
			upTo = n.upTo
		}
	}
	return upTo
}

// work is what the workers of one stage told of an epoch's frames.
type work struct {
	taken Ranges // by anybody
	hands map[hand]*handful
}

// hand is one process that takes frames, and how often it had returned them.
type hand struct {
	stage, instance string
	run             int64
	again           int
}

type handful struct{ taken, returned Ranges }

func (w *work) of(h hand) *handful {
	f := w.hands[h]
	if f == nil {
		if w.hands == nil {
			w.hands = map[hand]*handful{}
		}
		f = &handful{}
		w.hands[h] = f
	}
	return f
}

func (w *work) hasHandOf(i Incident) bool {
	for h := range w.hands {
		if i.ends(h) {
			return true
		}
	}
	return false
}

// held are those of some frames that somebody received and neither gave back nor died with; died are those that
// somebody died with.
func (w *work) held(of Ranges, reach map[Incident]reach) (held, died Ranges) {
	for h, f := range w.hands {
		rest := of.And(f.taken).Minus(f.returned)
		var lost Ranges
		for i, n := range reach {
			if i.ends(h) && n.upTo > n.after {
				lost.AddAll(rest.And(Ranges{{n.after + 1, n.upTo}}))
			}
		}
		died.AddAll(lost)
		held.AddAll(rest.Minus(lost))
	}
	return held, died
}

// drop forgets frames in all hands: they have their fate, whoever had them.
func (w *work) drop(frames Ranges) {
	for h, f := range w.hands {
		if f.taken, f.returned = f.taken.Minus(frames), f.returned.Minus(frames); len(f.taken) == 0 && len(f.returned) == 0 {
			delete(w.hands, h)
		}
	}
}
