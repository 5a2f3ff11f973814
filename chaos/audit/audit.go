// Package audit counts what became of every frame without asking the system's own books, and then compares the two.
//
// # What it counts
//
// It reads PREDICTIONS and DLQ in full and listens to the frames that ingest publishes. Frames of an epoch are numbered
// from 1 without holes, so a number below one that was seen is a frame that was captured. From that follow, for a camera
// that must answer every frame:
//
//   - doubled: the same frame and model stored twice in PREDICTIONS, or both answered and quarantined;
//   - missing: captured, and neither answered nor quarantined.
//
// A missing frame is only lost when the books do not say what became of it (superseded by a full backlog, purged by an
// operator): what the books explain too many or too few of is a difference. Cameras that may skip frames are judged by the
// books alone, where a frame that a worker received and that has no fate is lost.
package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/streams"
)

// Facts are what was seen of frames so far. Any number of goroutines may use them.
type Facts struct {
	mu       sync.Mutex
	answered map[view]*ledger.Ranges
	buried   map[epoch]*ledger.Ranges
	seen     map[epoch]uint64 // the highest number
	doubled  []string
}

type epoch struct {
	camera string
	number uint64
}

type view struct {
	epoch
	model string
}

// NewFacts knows nothing yet.
func NewFacts() *Facts {
	return &Facts{answered: map[view]*ledger.Ranges{}, buried: map[epoch]*ledger.Ranges{}, seen: map[epoch]uint64{}}
}

// Published tells that a frame was seen on its way.
func (f *Facts) Published(n frame.Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.see(n)
}

func (f *Facts) see(n frame.Name) epoch {
	e := epoch{n.Camera, n.Epoch}
	f.seen[e] = max(f.seen[e], n.Seq)
	return e
}

// Answered tells of one message of PREDICTIONS.
func (f *Facts) Answered(n frame.Name, model string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.see(n)
	v := view{e, model}
	if f.answered[v] == nil {
		f.answered[v] = &ledger.Ranges{}
	}
	if has(f.answered[v], n.Seq) {
		f.doubled = append(f.doubled, n.String()+" answered twice by "+model)
	} else if has(f.buried[e], n.Seq) {
		f.doubled = append(f.doubled, n.String()+" quarantined, then answered by "+model)
	}
	f.answered[v].Add(n.Seq, n.Seq)
}

// Buried tells of one message of DLQ.
func (f *Facts) Buried(n frame.Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.see(n)
	if f.buried[e] == nil {
		f.buried[e] = &ledger.Ranges{}
	}
	for v, answered := range f.answered {
		if v.epoch == e && has(answered, n.Seq) {
			f.doubled = append(f.doubled, n.String()+" answered by "+v.model+", then quarantined")
		}
	}
	f.buried[e].Add(n.Seq, n.Seq)
}

func has(r *ledger.Ranges, seq uint64) bool {
	return r != nil && len(r.And(ledger.Ranges{{seq, seq}})) > 0
}

// IsAnswered and IsBuried say what became of one frame.
func (f *Facts) IsAnswered(n frame.Name, model string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return has(f.answered[view{epoch{n.Camera, n.Epoch}, model}], n.Seq)
}

// IsBuried says whether the frame is in DLQ.
func (f *Facts) IsBuried(n frame.Name) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return has(f.buried[epoch{n.Camera, n.Epoch}], n.Seq)
}

// Doubled are the doubles so far.
func (f *Facts) Doubled() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.doubled)
}

// Mark is everything that was captured up to a moment, as far as it was seen.
type Mark map[epoch]uint64

// Now makes a mark.
func (f *Facts) Now() Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.seen)
}

// Missing are the frames of a camera up to the mark that are neither answered by the model nor quarantined, as
// <camera>/<epoch>/<first>-<last>, and how many they are.
func (f *Facts) Missing(mark Mark, camera, model string) (frames []string, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e, last := range mark {
		if e.camera != camera {
			continue
		}
		open := ledger.Ranges{{1, last}}
		if a := f.answered[view{e, model}]; a != nil {
			open = open.Minus(*a)
		}
		if b := f.buried[e]; b != nil {
			open = open.Minus(*b)
		}
		n += open.Count()
		for _, r := range open {
			frames = append(frames, fmt.Sprintf("%s/%d/%d-%d", e.camera, e.number, r[0], r[1]))
		}
	}
	slices.Sort(frames)
	return frames, n
}

// Answers counts the distinct frames of a camera that a model answered.
func (f *Facts) Answers(camera, model string) (n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for v, r := range f.answered {
		if v.camera == camera && v.model == model {
			n += r.Count()
		}
	}
	return n
}

// totals are how many frames of a camera were captured, as far as was seen until now, and how many up to the mark are
// answered by the model or quarantined.
func (f *Facts) totals(mark Mark, camera, model string) (captured, ended uint64) {
	_, missing := f.Missing(mark, camera, model)
	f.mu.Lock()
	defer f.mu.Unlock()
	for e, last := range f.seen {
		if e.camera == camera {
			captured += last
			ended += mark[e]
		}
	}
	return captured, ended - missing
}

// Finding is the state of one camera and model: by the audit and by the books.
type Finding struct {
	Camera   string           `json:"camera"`
	Model    string           `json:"model"`
	Delivery streams.Delivery `json:"delivery"`
	// Missing is by the audit, up to the mark; Frames says which.
	Missing uint64   `json:"missing"`
	Frames  []string `json:"frames"`
	// Explained is how many of them the books have a fate for. Fates of frames that the audit never saw, because a process
	// that was cut off captured and dropped them, explain nothing.
	Explained uint64 `json:"explained"`
	// BooksLost is what the books call lost.
	BooksLost uint64 `json:"books_lost"`
	// Denied is how many answers and quarantined frames are stored that the books know nothing of.
	Denied uint64 `json:"denied"`
	// Unbalanced: the books' own sum is not right. Unknown: they have no such line.
	Unbalanced bool        `json:"unbalanced"`
	Unknown    bool        `json:"unknown"`
	Books      ledger.Line `json:"books"`
}

// Lost is what has no fate: by the audit or by the books, whichever is more.
func (d Finding) Lost() uint64 {
	return max(d.Missing-min(d.Missing, d.Explained), d.BooksLost)
}

// Compare holds the books against the facts. The mark should be a few seconds older than the books: what is under way
// then is in neither. The facts themselves should be newer than the books.
func (f *Facts) Compare(mark Mark, lines []ledger.Line) []Finding {
	byView := map[[2]string]ledger.Line{}
	for _, l := range lines {
		byView[[2]string{l.Camera, l.Model}] = l
	}
	f.mu.Lock()
	for v := range f.answered { // an answer that the books do not know is a difference, too
		if k := [2]string{v.camera, v.model}; byView[k].Camera == "" {
			byView[k] = ledger.Line{Model: v.model}
		}
	}
	f.mu.Unlock()
	out := make([]Finding, 0, len(byView))
	for k, l := range byView {
		d := Finding{
			Camera: k[0], Model: k[1], Delivery: l.Delivery, BooksLost: l.Lost, Books: l, Unknown: l.Camera == "",
			Unbalanced: l.Captured != l.Predicted+l.Superseded+l.Expired+l.Quarantined+l.InFlight+l.Lost,
		}
		if l.Delivery == streams.EveryFrame {
			d.Frames, d.Missing = f.Missing(mark, d.Camera, d.Model)
			captured, ended := f.totals(mark, d.Camera, d.Model)
			unseen := l.Captured - min(l.Captured, captured)
			explains := l.Superseded + l.Expired
			d.Explained = min(d.Missing, explains-min(explains, unseen))
			known := l.Predicted + l.Quarantined + l.InFlight
			d.Denied = ended - min(ended, known)
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Camera, b.Camera), cmp.Compare(a.Model, b.Model))
	})
	return out
}
