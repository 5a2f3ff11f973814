package infer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

// A Tensor is one picture at the size of a model's input.
type Tensor struct {
	// Data holds height x width x channels bytes in the declared colour order. Infer reads it and does not keep it.
	Data []byte
	// Transform maps its pixels to the source picture's, whose size SourceW and SourceH are.
	Transform        model.Transform
	SourceW, SourceH int
}

// A Result is a model's answer about one picture, its boxes in pixels of the source picture and within it.
type Result struct {
	// Detections are a detector's, best first; never nil for a detector.
	Detections []heads.Detection
	// Classes are a classifier's, best first; never nil for a classifier.
	Classes []heads.ClassScore
}

// ItemErrors says that some pictures of a batch have no answer while the others do.
type ItemErrors struct { //nolint:errname // it holds several
	// Errs has an error for each picture without an answer, nil for the others.
	Errs []error
}

// Error names every picture that failed.
func (e *ItemErrors) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap gives the errors to errors.Is and errors.As.
func (e *ItemErrors) Unwrap() []error {
	var errs []error
	for i, err := range e.Errs {
		if err != nil {
			errs = append(errs, fmt.Errorf("picture %d: %w", i, err))
		}
	}
	return errs
}

// A Model is a session together with what is needed to feed and to understand it. Any number of goroutines may use it.
type Model struct {
	artifact model.Artifact
	session  Session
	head     *heads.Head
	ladder   []int
	table    normaliser
	buffers  sync.Pool // of *[]float32
	golden   *golden
}

// Load loads a model and refuses one that could not answer: the file must fit its declaration, warm-up runs of every
// batch size must give finite outputs of the right shapes, and the golden input, where the model has one, the golden
// answer.
func Load(ctx context.Context, b Backend, a model.Artifact, o Options) (*Model, error) {
	m, err := load(ctx, b, a, o)
	if err != nil {
		return nil, fmt.Errorf("load model %s version %d: %w", a.Name, a.Version, err)
	}
	return m, nil
}

func load(ctx context.Context, b Backend, a model.Artifact, o Options) (_ *Model, err error) {
	g, err := readGolden(a.Golden, a.Declaration)
	if err != nil {
		return nil, err
	}
	session, err := b.Load(ctx, a, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, session.Close())
		}
	}()
	if a.Declaration, err = Check(a.Declaration, session.Signature()); err != nil {
		return nil, fmt.Errorf("%s does not fit its declaration:\n%w", a.Path, err)
	}
	head, err := heads.New(a.Declaration)
	if err != nil {
		return nil, err
	}
	m := &Model{
		artifact: a, session: session, head: head, golden: g,
		ladder: ladder(o.Ladder, a.Declaration.MaxBatchSize),
		table:  newNormaliser(a.Declaration.Input),
	}
	if err := m.warmUp(ctx); err != nil {
		return nil, err
	}
	if err := m.recordGolden(ctx); err != nil {
		return nil, err
	}
	return m, m.CheckGolden(ctx)
}

// ladder sorts the sizes that can be used and makes sure that the largest batch has a place.
func ladder(sizes []int, largest int) []int {
	if len(sizes) == 0 {
		return nil
	}
	rungs := []int{largest}
	for _, s := range sizes {
		if s > 0 && s < largest {
			rungs = append(rungs, s)
		}
	}
	slices.Sort(rungs)
	return slices.Compact(rungs)
}

// Artifact is the version that was loaded, its declaration resolved against the file.
func (m *Model) Artifact() model.Artifact { return m.artifact }

// Close frees the model after the calls under way.
func (m *Model) Close() error {
	if err := m.session.Close(); err != nil {
		return fmt.Errorf("close model %s: %w", m.artifact.Name, err)
	}
	return nil
}

// Infer answers for each tensor, in batches of at most max_batch_size. Where only some pictures fail, because a tensor
// has the wrong size or its part of the output is not finite, the error is an [*ItemErrors] and the results of the others
// are good. With any other error there are no results.
func (m *Model) Infer(ctx context.Context, tensors []Tensor) ([]Result, error) {
	results, errs := make([]Result, len(tensors)), make([]error, len(tensors))
	good := make([]int, 0, len(tensors))
	for i, t := range tensors {
		if errs[i] = m.refuse(t); errs[i] == nil {
			good = append(good, i)
		}
	}
	for chunk := range slices.Chunk(good, m.artifact.Declaration.MaxBatchSize) {
		if err := m.inferChunk(ctx, tensors, chunk, results, errs); err != nil {
			return nil, fmt.Errorf("infer %s: %w", m.artifact.Name, err)
		}
	}
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return results, &ItemErrors{Errs: errs}
	}
	return results, nil
}

func (m *Model) refuse(t Tensor) error {
	in := m.artifact.Declaration.Input
	if len(t.Data) != in.Bytes() {
		return fmt.Errorf("tensor has %d bytes, %s needs %dx%dx%d: %d",
			len(t.Data), m.artifact.Name, in.Height, in.Width, in.Color.Channels(), in.Bytes())
	}
	if t.SourceW <= 0 || t.SourceH <= 0 {
		return fmt.Errorf("source picture is %dx%d", t.SourceW, t.SourceH)
	}
	return t.Transform.Validate()
}

// inferChunk runs the tensors with these indices as one batch.
func (m *Model) inferChunk(ctx context.Context, tensors []Tensor, chunk []int, results []Result, errs []error) error {
	fill := func(i int, dst []float32) { m.table.apply(dst, tensors[chunk[i]].Data) }
	return m.run(ctx, len(chunk), fill, func(outputs map[string]heads.Tensor) error {
		for i, index := range chunk {
			answer, err := m.head.Decode(outputs, i)
			if err != nil {
				errs[index] = err
				continue
			}
			results[index] = place(answer, tensors[index])
		}
		return nil
	})
}

// place maps an answer to the source picture.
func place(a heads.Answer, t Tensor) Result {
	r := Result{Classes: a.Classes}
	if a.Detections == nil {
		return r
	}
	r.Detections = a.Detections[:0]
	for _, d := range a.Detections {
		box, inside := model.ClipBox(t.Transform.Box(d.Box), t.SourceW, t.SourceH)
		if inside { // else it lies in a letterbox's bar
			d.Box = box
			r.Detections = append(r.Detections, d)
		}
	}
	return r
}

// run runs n pictures, which fill writes, and hands the outputs by role to use.
func (m *Model) run(ctx context.Context, n int, fill func(i int, dst []float32),
	use func(map[string]heads.Tensor) error,
) error {
	in := m.artifact.Declaration.Input
	size := n
	if i := slices.IndexFunc(m.ladder, func(rung int) bool { return rung >= n }); i >= 0 {
		size = m.ladder[i]
	}
	one := in.Bytes()
	buffer := m.buffer(size * one)
	defer m.buffers.Put(buffer)
	data := (*buffer)[:size*one]
	for i := range n {
		fill(i, data[i*one:(i+1)*one])
	}
	clear(data[n*one:])
	outputs, err := m.session.Run(ctx, Batch{Shape: m.shape(size), Data: data})
	if err != nil {
		return err
	}
	defer outputs.Release()
	byRole := make(map[string]heads.Tensor, len(m.artifact.Declaration.Output))
	for role, name := range m.artifact.Declaration.Output {
		t, ok := outputs.Tensors[name]
		if !ok {
			return fmt.Errorf("the run gave no output %q", name)
		}
		byRole[role] = t
	}
	return use(byRole)
}

func (m *Model) buffer(size int) *[]float32 {
	if b, ok := m.buffers.Get().(*[]float32); ok && cap(*b) >= size {
		return b
	}
	b := make([]float32, size)
	return &b
}

func (m *Model) shape(batch int) []int64 {
	in := m.artifact.Declaration.Input
	n, c, h, w := int64(batch), int64(in.Color.Channels()), int64(in.Height), int64(in.Width)
	if in.Layout == model.NHWC {
		return []int64{n, h, w, c}
	}
	return []int64{n, c, h, w}
}
