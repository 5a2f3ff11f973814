package ledger

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/streams"
)

// world is a made-up history of one camera: what really became of each frame, and what the stages said.
type world struct {
	models    []string
	delivery  streams.Delivery
	truth     map[string]*Line
	said      []said
	incidents []Incident
	died      time.Time // of the worker "mortal"; zero: it lives
}

// teller is who says something: an instance of a stage in one of its lives.
type teller struct {
	stage, instance string
	run             int64
}

// mortal is a worker that may die, and what follows it under its name.
func (w *world) mortal(stage string) teller {
	return teller{stage, "mortal", start.Add(-time.Hour).UnixMilli()}
}
func (w *world) heir(stage string) teller { return teller{stage, "mortal", w.died.UnixMilli() + 1} }

// said is one mark with the time of the record it is in.
type said struct {
	epoch uint64
	by    teller
	entry Entry
	at    time.Time
}

func (w *world) say(epoch, seq uint64, at time.Time, stage string, mark Mark, model, reason string) {
	w.tell(epoch, seq, at, teller{stage: stage}, Entry{Mark: mark, Model: model, Reason: reason})
}

func (w *world) tell(epoch, seq uint64, at time.Time, by teller, e Entry) {
	e.Frames = Ranges{{seq, seq}}
	w.said = append(w.said, said{epoch, by, e, at})
}

// path is what becomes of a frame. Which paths are possible depends on what comes after it.
type path int

const (
	predicted path = iota
	refusedByIngest
	evictedFrame
	expired
	quarantined
	evictedTensor
	expiredTensor
	lostInPreprocess
	lostInInfer
	lostInIngest
	returnedFrame
	returnedTensor
	returnedAndLost    // by the same worker, who took it again
	returnedAndLostByB // by another one
	diedFrame          // in preprocess
	diedTensor         // in infer
	diedAndLostByHeir  // came back, and was lost by the worker of that name that followed
	paths
)

// live draws the history of a camera with freshest delivery. Every epoch ends with a frame that is answered, so that
// every eviction has a cause.
func live(t *rapid.T, epochs, frames int) *world {
	w := &world{models: []string{"a", "b"}, delivery: streams.Freshest, truth: map[string]*Line{}}
	for _, stage := range []string{"preprocess", "infer"} { // what befalls others explains nothing
		w.incidents = append(w.incidents,
			Incident{Kind: WorkerEnded, Stage: stage, Instance: "other", At: start.Add(time.Minute)},
			Incident{Kind: WorkerEnded, Stage: "ingest", Instance: "mortal", At: start.Add(time.Minute)})
	}
	if dies := rapid.IntRange(0, epochs*frames).Draw(t, "dies"); dies > 0 {
		w.died = start.Add(time.Duration(dies) * 100 * time.Millisecond)
		for _, stage := range []string{"preprocess", "infer"} {
			w.incidents = append(w.incidents, Incident{Kind: WorkerEnded, Stage: stage, Instance: "mortal", At: w.died})
		}
	}
	for _, m := range w.models {
		w.truth[m] = &Line{Camera: "cam", Model: m, Delivery: streams.Freshest, Reasons: map[string]uint64{}}
	}
	at := start
	for epoch := uint64(1); epoch <= uint64(epochs); epoch++ {
		n := rapid.IntRange(1, frames).Draw(t, "frames")
		for seq := uint64(1); seq <= uint64(n); seq++ {
			at = at.Add(100 * time.Millisecond)
			p := predicted
			if seq < uint64(n) {
				p = path(rapid.IntRange(0, int(paths)-1).Draw(t, "path"))
			}
			if p >= diedFrame && at.After(w.died) && !at.After(w.died.Add(3*time.Second)) { // here the books cannot tell
				p = predicted
			}
			w.frame(epoch, seq, p, at, epoch < uint64(epochs))
		}
	}
	return w
}

func (w *world) frame(epoch, seq uint64, p path, at time.Time, restarted bool) {
	end := func(model string, mark Mark, reason string) {
		for _, m := range w.models {
			if model == "" || m == model {
				w.truth[m].Captured++
				w.truth[m].addFate(mark, reason, 1)
				if mark == "" {
					w.truth[m].Lost++
				}
			}
		}
	}
	w.say(epoch, seq, at, "ingest", Captured, "", "")
	switch p { //nolint:exhaustive // the others go on
	case refusedByIngest:
		w.say(epoch, seq, at, "ingest", Superseded, "", "outbox")
		end("", Superseded, "outbox")
		return
	case lostInIngest:
		if restarted {
			end("", Superseded, "restart")
		} else {
			end("", "", "")
		}
		return
	}
	w.say(epoch, seq, at, "ingest", Published, "", "")
	if p == evictedFrame {
		end("", Superseded, "frame_ring")
		return
	}
	dead := !w.died.IsZero() && !at.After(w.died)
	switch p { //nolint:exhaustive // the others go on
	case returnedFrame:
		w.say(epoch, seq, at, "preprocess", Taken, "", "")
		w.say(epoch, seq, at, "preprocess", Returned, "", "")
		end("", Superseded, "returned")
		return
	case returnedAndLost:
		w.say(epoch, seq, at, "preprocess", Taken, "", "")
		w.say(epoch, seq, at, "preprocess", Returned, "", "")
		w.tell(epoch, seq, at.Add(time.Second), teller{stage: "preprocess"}, Entry{Mark: Taken, Again: 1})
		end("", "", "")
		return
	case returnedAndLostByB:
		w.say(epoch, seq, at, "preprocess", Taken, "", "")
		w.tell(epoch, seq, at.Add(time.Second), teller{stage: "preprocess", instance: "b"}, Entry{Mark: Taken})
		w.say(epoch, seq, at.Add(time.Second), "preprocess", Returned, "", "")
		end("", "", "")
		return
	case diedFrame, diedAndLostByHeir:
		w.tell(epoch, seq, at, w.mortal("preprocess"), Entry{Mark: Taken})
		if p == diedAndLostByHeir {
			w.tell(epoch, seq, at, w.heir("preprocess"), Entry{Mark: Taken})
		}
		if dead && p == diedFrame {
			end("", Superseded, "worker_died")
		} else {
			end("", "", "")
		}
		return
	}
	w.say(epoch, seq, at, "preprocess", Taken, "", "")
	switch p { //nolint:exhaustive // the others go on
	case expired:
		w.say(epoch, seq, at, "preprocess", Expired, "", "max_age")
		end("", Expired, "max_age")
		return
	case quarantined:
		w.say(epoch, seq, at, "preprocess", Quarantined, "", "preprocess")
		end("", Quarantined, "preprocess")
		return
	case lostInPreprocess:
		end("", "", "")
		return
	}
	for i, m := range w.models {
		w.say(epoch, seq, at, "preprocess", Forwarded, m, "")
		if p == evictedTensor && i == 0 {
			end(m, Superseded, "tensor_ring")
			continue
		}
		if p == diedTensor && i == 0 {
			w.tell(epoch, seq, at, w.mortal("infer"), Entry{Mark: Taken, Model: m})
			if dead {
				end(m, Superseded, "worker_died")
			} else {
				end(m, "", "")
			}
			continue
		}
		w.say(epoch, seq, at, "infer", Taken, m, "")
		switch {
		case p == returnedTensor && i == 1:
			w.say(epoch, seq, at, "infer", Returned, m, "")
			end(m, Superseded, "returned")
		case p == expiredTensor && i == 1:
			w.say(epoch, seq, at, "infer", Expired, m, "max_age")
			end(m, Expired, "max_age")
		case p == lostInInfer && i == 0:
			end(m, "", "")
		default:
			w.say(epoch, seq, at, "infer", Predicted, m, "")
			end(m, Predicted, "")
		}
	}
}

// messages packs what was said into records as reporters do: one per teller, epoch and flush, at most that late.
func (w *world) messages(flush time.Duration) []Message {
	type key struct {
		at    time.Time
		by    teller
		epoch uint64
	}
	packed := map[key]map[entryKey]*Ranges{}
	for _, s := range w.said {
		k := key{s.at.Truncate(flush).Add(flush), s.by, s.epoch}
		if packed[k] == nil {
			packed[k] = map[entryKey]*Ranges{}
		}
		e := entryKey{mark: s.entry.Mark, model: s.entry.Model, reason: s.entry.Reason, again: s.entry.Again}
		if packed[k][e] == nil {
			packed[k][e] = &Ranges{}
		}
		packed[k][e].AddAll(s.entry.Frames)
	}
	var out []Message
	for k, entries := range packed {
		r := Record{Camera: "cam", Epoch: k.epoch, Stage: k.by.stage, Instance: k.by.instance, Run: k.by.run, At: k.at}
		if k.by.stage == "ingest" {
			r.Route = &Route{Delivery: w.delivery, Models: w.models}
			if w.delivery == streams.Freshest {
				r.Route.MaxAge = time.Second
			}
		}
		for e, frames := range entries {
			r.Entries = append(r.Entries, Entry{Mark: e.mark, Model: e.model, Reason: e.reason, Again: e.again, Frames: *frames})
		}
		out = append(out, Message{Record: &r})
	}
	for _, i := range w.incidents {
		out = append(out, Message{Incident: &i})
	}
	slices.SortFunc(out, func(a, b Message) int { return a.told().Compare(b.told()) })
	return out
}

func (m Message) told() time.Time {
	if m.Incident != nil {
		return m.Incident.At
	}
	return m.Record.At
}

func (w *world) lines() []Line {
	var out []Line
	for _, m := range w.models {
		out = append(out, *w.truth[m])
	}
	return out
}

// every draws the history of an every_frame camera whose frames an operator purged at some time, and of whose streams
// nothing is left in the end.
func every(t *rapid.T, frames int) *world {
	w := &world{models: []string{"m"}, delivery: streams.EveryFrame, truth: map[string]*Line{}}
	l := &Line{Camera: "cam", Model: "m", Delivery: streams.EveryFrame, Reasons: map[string]uint64{}}
	w.truth["m"] = l
	purged := start.Add(time.Duration(rapid.IntRange(0, frames).Draw(t, "purged")) * 500 * time.Millisecond)
	filters := []string{"", "frames.every.cam", "frames.*.cam", "frames.>"}
	tensors := rapid.Bool().Draw(t, "tensors")
	i := Incident{Kind: StreamPurged, Stream: streams.Frames, Filter: rapid.SampledFrom(filters).Draw(t, "filter"), At: purged}
	if tensors {
		i.Stream = streams.Tensors
		i.Filter = rapid.SampledFrom([]string{"", "tensors.every.m.stable.cam", "tensors.every.m.>", "tensors.*.*.*.cam"}).Draw(t, "tensor filter")
	}
	w.incidents = []Incident{
		i,
		{Kind: StreamPurged, Stream: streams.Frames, Filter: "frames.every.other", At: start.Add(time.Hour)},
		{Kind: StreamPurged, Stream: streams.Tensors, Filter: "tensors.every.other.>", At: start.Add(time.Hour)},
		{Kind: StreamPurged, Stream: streams.FramesLive, At: start.Add(time.Hour)},
		{Kind: StreamPurged, Stream: streams.Predictions, At: start.Add(time.Hour)},
	}
	n := rapid.IntRange(1, frames).Draw(t, "frames")
	for seq := uint64(1); seq <= uint64(n); seq++ {
		at := start.Add(time.Duration(seq) * 500 * time.Millisecond)
		here := !at.After(purged)
		if !here && !at.After(purged.Add(3*time.Second)) { // here the books cannot tell
			continue
		}
		end := func(explained bool) {
			if explained {
				l.addFate(Expired, reasonPurged, 1)
			} else {
				l.Lost++
			}
		}
		l.Captured++
		w.say(1, seq, at, "ingest", Captured, "", "")
		switch rapid.IntRange(0, 6).Draw(t, "every path") {
		case 0: // never published
			end(false)
			continue
		case 1: // nobody took it
			w.say(1, seq, at, "ingest", Published, "", "")
			end(here && !tensors)
			continue
		case 2: // somebody has it
			w.say(1, seq, at, "ingest", Published, "", "")
			w.say(1, seq, at, "preprocess", Taken, "", "")
			end(false)
			continue
		case 3: // somebody gave it back
			w.say(1, seq, at, "ingest", Published, "", "")
			w.say(1, seq, at, "preprocess", Taken, "", "")
			w.say(1, seq, at, "preprocess", Returned, "", "")
			end(here && !tensors)
			continue
		}
		w.say(1, seq, at, "ingest", Published, "", "")
		w.say(1, seq, at, "preprocess", Taken, "", "")
		w.say(1, seq, at, "preprocess", Forwarded, "m", "")
		switch rapid.IntRange(0, 2).Draw(t, "tensor path") {
		case 0:
			end(here && tensors)
		case 1:
			w.say(1, seq, at, "infer", Taken, "m", "")
			end(false)
		default:
			w.say(1, seq, at, "infer", Taken, "m", "")
			w.say(1, seq, at, "infer", Predicted, "m", "")
			l.Predicted++
		}
	}
	return w
}
