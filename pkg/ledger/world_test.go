package ledger

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/sightline-dev/sightline/streams"
)

// world is a made-up history of one live camera: what really became of each frame, and what the stages said.
type world struct {
	models []string
	truth  map[string]*Line
	said   []said
}

// said is one mark with the time of the record it is in.
type said struct {
	epoch uint64
	stage string
	entry Entry
	at    time.Time
}

func (w *world) say(epoch, seq uint64, at time.Time, stage string, mark Mark, model, reason string) {
	w.said = append(w.said, said{epoch, stage, Entry{mark, model, reason, Ranges{{seq, seq}}}, at})
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
	paths
)

// live draws the history of a camera with freshest delivery. Every epoch ends with a frame that is answered, so that
// every eviction has a cause.
func live(t *rapid.T, epochs, frames int) *world {
	w := &world{models: []string{"a", "b"}, truth: map[string]*Line{}}
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
		w.say(epoch, seq, at, "infer", Taken, m, "")
		switch {
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

// records packs what was said into records as reporters do: one per stage, epoch and flush, at most lag later.
func (w *world) records(flush time.Duration) []Record {
	type key struct {
		at    time.Time
		stage string
		epoch uint64
	}
	packed := map[key]map[entryKey]*Ranges{}
	for _, s := range w.said {
		k := key{s.at.Truncate(flush).Add(flush), s.stage, s.epoch}
		if packed[k] == nil {
			packed[k] = map[entryKey]*Ranges{}
		}
		e := entryKey{s.entry.Mark, s.entry.Model, s.entry.Reason}
		if packed[k][e] == nil {
			packed[k][e] = &Ranges{}
		}
		packed[k][e].AddAll(s.entry.Frames)
	}
	var out []Record
	for k, entries := range packed {
		r := Record{Camera: "cam", Epoch: k.epoch, Stage: k.stage, At: k.at}
		if k.stage == "ingest" {
			r.Route = &Route{streams.Freshest, w.models, time.Second}
		}
		for e, frames := range entries {
			r.Entries = append(r.Entries, Entry{e.mark, e.model, e.reason, *frames})
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Record) int { return a.At.Compare(b.At) })
	return out
}

func (w *world) lines() []Line {
	var out []Line
	for _, m := range w.models {
		out = append(out, *w.truth[m])
	}
	return out
}
