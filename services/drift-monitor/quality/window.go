package quality

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/statistics"
)

// A Window remembers what is known of the last labelled pictures, in bounded memory. The zero value is not ready: make it with
// NewWindow or DecodeWindow. It is for one goroutine.
type Window struct {
	Pictures int           `json:"pictures"` // at most
	Age      time.Duration `json:"age"`      // of the oldest, by the newest
	Kept     []Picture     `json:"kept"`     // the newest last
}

// A Picture is what is known of one.
type Picture struct {
	At time.Time `json:"at"`
	// Outcomes are of the answers, by class.
	Outcomes map[string][]Outcome `json:"o,omitempty"`
	// Objects are how many there were, by class; nil when only single answers were looked at.
	Objects map[string]int `json:"n,omitempty"`
	// Complete says that all objects of the picture are known.
	Complete bool `json:"c,omitempty"`
}

const (
	maxPictures = 100_000
	maxPerClass = 10_000
)

// NewWindow remembers so many pictures, none older than age before the newest. 1,000 pictures of ten detections take 250 kB.
func NewWindow(pictures int, age time.Duration) *Window {
	return &Window{Pictures: min(max(pictures, 1), maxPictures), Age: age}
}

// Label adds a picture of which everything is known.
func (w *Window) Label(at time.Time, objects []Object, answers []Answer) {
	m := Match(objects, answers)
	p := Picture{At: at, Complete: true, Outcomes: map[string][]Outcome{}, Objects: map[string]int{}}
	for i, a := range answers {
		if m.Counted[i] {
			p.Outcomes[a.Class] = append(p.Outcomes[a.Class], Outcome{Score: a.Score, Right: m.Right[i]})
		}
	}
	for _, o := range objects {
		p.Objects[o.Class]++
	}
	w.add(p)
}

// Judge adds a picture of which some answers were said to be right or not; right has a value for those.
func (w *Window) Judge(at time.Time, answers []Answer, right map[int]bool) {
	p := Picture{At: at, Outcomes: map[string][]Outcome{}}
	for i, a := range answers {
		if r, said := right[i]; said {
			p.Outcomes[a.Class] = append(p.Outcomes[a.Class], Outcome{Score: a.Score, Right: r})
		}
	}
	w.add(p)
}

func (w *Window) add(p Picture) {
	at, _ := slices.BinarySearchFunc(w.Kept, p, func(a, b Picture) int {
		if a.At.After(b.At) {
			return 1
		}
		return -1 // behind those of the same time
	})
	w.Kept = slices.Insert(w.Kept, at, p)
	newest := w.Kept[len(w.Kept)-1].At
	drop := max(len(w.Kept)-w.Pictures, 0)
	for w.Age > 0 && drop < len(w.Kept) && newest.Sub(w.Kept[drop].At) > w.Age {
		drop++
	}
	w.Kept = slices.Delete(w.Kept, 0, drop)
}

// Precision is the share of answers that were right.
func (w *Window) Precision() (Estimate, bool) {
	return share(w.parts(func(p *Picture) part { return part{float64(p.right()), float64(p.answers())} }))
}

// Recall is the share of objects that were found, in pictures of which everything is known.
func (w *Window) Recall() (Estimate, bool) {
	return share(w.parts(func(p *Picture) part {
		if !p.Complete {
			return part{}
		}
		n := 0
		for _, objects := range p.Objects {
			n += objects
		}
		return part{float64(p.right()), float64(n)}
	}))
}

func (w *Window) parts(of func(*Picture) part) []part {
	out := make([]part, len(w.Kept))
	for i := range w.Kept {
		out[i] = of(&w.Kept[i])
	}
	return out
}

func (p *Picture) right() (n int) {
	for _, of := range p.Outcomes {
		for _, o := range of {
			if o.Right {
				n++
			}
		}
	}
	return n
}

func (p *Picture) answers() (n int) {
	for _, of := range p.Outcomes {
		n += len(of)
	}
	return n
}

// Outcomes are all that were kept, by class: what Fit calibrates with.
func (w *Window) Outcomes() map[string][]Outcome {
	out := map[string][]Outcome{}
	for i := range w.Kept {
		for class, of := range w.Kept[i].Outcomes {
			out[class] = append(out[class], of...)
		}
	}
	return out
}

// resamples is how often the pictures are drawn anew for an interval.
const resamples = 200

// AP50 is the mean over classes that have objects of AveragePrecision. Its interval is that of 200 bootstrap samples of
// pictures (Efron 1979; percentiles 2.5 and 97.5), drawn the same way each time.
func (w *Window) AP50() (Estimate, bool) {
	var complete []*Picture
	objects := 0
	for i := range w.Kept {
		if p := &w.Kept[i]; p.Complete {
			complete = append(complete, p)
			for _, n := range p.Objects {
				objects += n
			}
		}
	}
	if objects < FewObjects || len(complete) < FewPictures {
		return Estimate{Count: objects}, false
	}
	e := Estimate{Value: averageOver(complete), Count: objects}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a bootstrap, to be the same each time
	values, drawn := make([]float64, resamples), make([]*Picture, len(complete))
	for i := range values {
		for k := range drawn {
			drawn[k] = complete[random.IntN(len(complete))]
		}
		values[i] = averageOver(drawn)
	}
	slices.Sort(values)
	e.Low, e.High = min(values[resamples*25/1000], e.Value), max(values[resamples*975/1000-1], e.Value)
	return e, true
}

func averageOver(pictures []*Picture) float64 {
	outcomes, objects := map[string][]Outcome{}, map[string]int{}
	for _, p := range pictures {
		for class, of := range p.Outcomes {
			outcomes[class] = append(outcomes[class], of...)
		}
		for class, n := range p.Objects {
			objects[class] += n
		}
	}
	sum, classes := 0.0, 0
	for _, class := range slices.Sorted(maps.Keys(objects)) {
		if objects[class] > 0 {
			sum += AveragePrecision(outcomes[class], objects[class])
			classes++
		}
	}
	if classes == 0 {
		return 0
	}
	return sum / float64(classes)
}

// calibrationBins are those of the expected calibration error.
const calibrationBins = 10

// CalibrationError is the expected calibration error of the scores as they are (Naeini and others 2015), or of what c makes of
// them, in 10 bins. The interval is by bootstrap over detections; by chance alone it is above 0. It is false for fewer than
// FewScores.
func (w *Window) CalibrationError(c *Calibration) (Estimate, bool) {
	var p []float64
	var right []bool
	all := w.Outcomes()
	for _, class := range slices.Sorted(maps.Keys(all)) {
		for _, o := range all[class] {
			v := o.Score
			if c != nil {
				v = c.Classes[class].At(v)
			}
			if v >= 0 && v <= 1 {
				p, right = append(p, v), append(right, o.Right)
			}
		}
	}
	e := Estimate{Count: len(p)}
	if len(p) < FewScores {
		return e, false
	}
	var err error
	if e.Value, err = statistics.CalibrationError(p, right, calibrationBins); err != nil {
		return e, false
	}
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a bootstrap, to be the same each time
	values := make([]float64, resamples)
	q, hit := make([]float64, len(p)), make([]bool, len(p))
	for i := range values {
		for k := range q {
			at := random.IntN(len(p))
			q[k], hit[k] = p[at], right[at]
		}
		values[i], _ = statistics.CalibrationError(q, hit, calibrationBins) // as good as the first
	}
	slices.Sort(values)
	e.Low, e.High = min(values[resamples*25/1000], e.Value), max(values[resamples*975/1000-1], e.Value)
	return e, true
}

// DecodeWindow reads the JSON of a window and refuses what could not have been added.
func DecodeWindow(data []byte) (*Window, error) {
	var w Window
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("quality: %w", err)
	}
	if w.Pictures < 1 || w.Pictures > maxPictures || w.Age < 0 || len(w.Kept) > w.Pictures {
		return nil, fmt.Errorf("quality: %d pictures of at most %d, up to %v old", len(w.Kept), w.Pictures, w.Age)
	}
	for i := range w.Kept {
		p := &w.Kept[i]
		if i > 0 && p.At.Before(w.Kept[i-1].At) {
			return nil, fmt.Errorf("quality: picture %d is older than the one before", i)
		}
		for class, of := range p.Outcomes {
			right := 0
			for _, o := range of {
				if o.Right {
					right++
				}
			}
			if len(of) > maxPerClass || p.Complete && right > p.Objects[class] {
				return nil, fmt.Errorf("quality: picture %d: %d of %d right of %d objects of %q", i, right, len(of), p.Objects[class], class)
			}
		}
		for class, n := range p.Objects {
			if n < 0 || n > maxPerClass {
				return nil, fmt.Errorf("quality: picture %d has %d objects of %q", i, n, class)
			}
		}
	}
	return &w, nil
}
