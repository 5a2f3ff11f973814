package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

// ErrFake is the error that [Fake.FailNext] asks for.
var ErrFake = errors.New("the fake was told to fail")

// A Fake is a deterministic Backend for tests of whatever uses one. Its models are of the person family: each picture
// has one person, in the middle half of it, whose score is the mean of the normalised input kept within 0 to 1. So a
// white picture shows a person and a black one does not. testdata/person.onnx computes the same.
//
// The zero value is ready to use. Every fault can be set while runs are under way.
type Fake struct {
	mu         sync.Mutex
	fail, nans int
	latency    time.Duration
	runs       int
	pictures   int
}

var _ Backend = (*Fake)(nil)

// FailNext makes the next n runs fail with [ErrFake].
func (f *Fake) FailNext(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = n
}

// NaNNext makes the next n runs answer with NaN.
func (f *Fake) NaNNext(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nans = n
}

// SetLatency makes every run take d.
func (f *Fake) SetLatency(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency = d
}

// Runs is the number of runs so far and of the pictures in them, including the warm-up's.
func (f *Fake) Runs() (runs, pictures int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.runs, f.pictures
}

// Load makes a session for the declaration. The file is only looked for where the artifact names one.
func (f *Fake) Load(ctx context.Context, a model.Artifact, _ Options) (Session, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if a.Path != "" {
		if _, err := os.Stat(a.Path); err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
	}
	if a.Declaration.Family != model.Person {
		return nil, fmt.Errorf("load: the fake knows the family %s, not %q", model.Person, a.Declaration.Family)
	}
	in := a.Declaration.Input
	if !in.Resolved() {
		return nil, errors.New("load: the fake needs input.width and input.height")
	}
	c, h, w := int64(in.Color.Channels()), int64(in.Height), int64(in.Width)
	shape := []int64{-1, c, h, w}
	if in.Layout == model.NHWC {
		shape = []int64{-1, h, w, c}
	}
	name := func(declared, otherwise string) string {
		if declared == "" {
			return otherwise
		}
		return declared
	}
	output := name(a.Declaration.Output[model.RoleDetections], "detections")
	return &fakeSession{
		fake: f, input: in, output: output,
		signature: model.Signature{
			Inputs:  []model.Port{{Name: name(in.Name, "images"), Type: "float32", Shape: shape}},
			Outputs: []model.Port{{Name: output, Type: "float32", Shape: []int64{-1, 1, 5}}},
		},
	}, nil
}

type fakeSession struct {
	fake      *Fake
	input     model.Input
	output    string
	signature model.Signature

	running sync.RWMutex // held for reading by every run
	closed  bool
}

func (s *fakeSession) Signature() model.Signature { return s.signature }

func (s *fakeSession) Close() error {
	s.running.Lock()
	defer s.running.Unlock()
	s.closed = true
	return nil
}

func (s *fakeSession) Run(ctx context.Context, b Batch) (*Outputs, error) {
	s.running.RLock()
	defer s.running.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	if err := CheckBatch(s.signature.Inputs[0], b); err != nil {
		return nil, err
	}
	n := int(b.Shape[0])
	latency, nan, err := s.fake.begin(n)
	if err != nil {
		return nil, err
	}
	if latency > 0 {
		timer := time.NewTimer(latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	one := len(b.Data) / n
	w, h := float32(s.input.Width), float32(s.input.Height)
	data := make([]float32, 0, n*5)
	for i := range n {
		score := mean(b.Data[i*one : (i+1)*one])
		if nan {
			score = float32(math.NaN())
		}
		data = append(data, w/4, h/4, 3*w/4, 3*h/4, score)
	}
	return NewOutputs(map[string]heads.Tensor{
		s.output: {Shape: []int64{int64(n), 1, 5}, Data: data},
	}, nil), nil
}

// begin counts a run and takes one of the faults that were asked for.
func (f *Fake) begin(pictures int) (latency time.Duration, nan bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs++
	f.pictures += pictures
	if f.fail > 0 {
		f.fail--
		err = ErrFake
	}
	if nan = f.nans > 0; nan {
		f.nans--
	}
	return f.latency, nan, err
}

func mean(values []float32) float32 {
	sum := 0.0
	for _, v := range values {
		sum += float64(v)
	}
	return float32(min(max(sum/float64(len(values)), 0), 1))
}

// CheckBatch refuses a batch that does not fit the input of a session, for backends to call before they run it.
func CheckBatch(in model.Port, b Batch) error {
	fits := len(b.Shape) == len(in.Shape)
	size := int64(1)
	for i, n := range b.Shape {
		fits = fits && n > 0 && (in.Shape[i] < 0 || in.Shape[i] == n) && size <= math.MaxInt32/n
		if !fits {
			break
		}
		size *= n
	}
	if !fits {
		return fmt.Errorf("batch %s does not fit input %s", model.FormatShape(b.Shape), in)
	}
	if int64(len(b.Data)) != size {
		return fmt.Errorf("batch %s needs %d values, there are %d", model.FormatShape(b.Shape), size, len(b.Data))
	}
	return nil
}
