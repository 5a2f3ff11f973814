package ort

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

// A session is a loaded model.
type session struct {
	onnx      *onnx.DynamicAdvancedSession
	signature model.Signature
	outputs   []model.Port // those that runs ask for

	running sync.RWMutex // held for reading by every run, and by nobody after its end
	closed  bool

	mu   sync.Mutex
	idle []*slot // the latest used last

	freed bool // Close is over: what still comes back is destroyed
}

var _ infer.Session = (*session)(nil)

// maxIdle bounds the idle slots, of all batch sizes together.
const maxIdle = 16

// A slot is what one run needs besides its input. Outputs whose shape is known beforehand are kept from run to run,
// because they would be most of a small model's garbage. Nothing finalizes it: who takes a slot gives it back or destroys it.
type slot struct {
	batch   int64
	options *onnx.RunOptions
	values  []onnx.Value // nil where the library allocates
	tensors map[string]heads.Tensor
	pin     runtime.Pinner // of the memory of values
}

// Signature is what the file says about itself.
func (s *session) Signature() model.Signature { return s.signature }

// Run runs one batch.
func (s *session) Run(ctx context.Context, b infer.Batch) (*infer.Outputs, error) {
	s.running.RLock()
	defer s.running.RUnlock()
	if s.closed {
		return nil, infer.ErrClosed
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	if len(s.signature.Inputs) != 1 {
		return nil, fmt.Errorf("run: the model has %d inputs, this backend feeds one", len(s.signature.Inputs))
	}
	if err := infer.CheckBatch(s.signature.Inputs[0], b); err != nil {
		return nil, err
	}
	sl, err := s.take(b.Shape[0])
	if err != nil {
		return nil, err
	}
	values, err := s.run(ctx, sl, b)
	if err != nil {
		sl.destroy()
		return nil, err
	}
	tensors, err := sl.read(s.outputs, values)
	if err != nil {
		sl.destroy()
		return nil, err
	}
	return infer.NewOutputs(tensors, func() { s.give(sl) }), nil
}

func (s *session) run(ctx context.Context, sl *slot, b infer.Batch) ([]onnx.Value, error) {
	var pin runtime.Pinner // the library keeps the address until the tensor is destroyed
	pin.Pin(&b.Data[0])
	defer pin.Unpin()
	input, err := onnx.NewTensor(onnx.NewShape(b.Shape...), b.Data)
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	defer input.Destroy() //nolint:errcheck // frees memory, always nil

	terminated := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { terminated <- sl.options.Terminate() })
	values := append([]onnx.Value(nil), sl.values...)
	err = s.onnx.RunWithOptions([]onnx.Value{input}, values, sl.options)
	if !stop() { // the options must not be used again before this is over
		if e := errors.Join(<-terminated, sl.options.UnsetTerminate()); e != nil && err == nil {
			err = e
		}
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err != nil {
		destroyFresh(sl.values, values)
		return nil, fmt.Errorf("run: %w", err)
	}
	return values, nil
}

// read makes the outputs' tensors. What the library allocated is copied by the binding, so only its handle is freed.
func (sl *slot) read(ports []model.Port, values []onnx.Value) (map[string]heads.Tensor, error) {
	defer destroyFresh(sl.values, values)
	if sl.tensors != nil {
		return sl.tensors, nil
	}
	tensors := make(map[string]heads.Tensor, len(values))
	for i, v := range values {
		t, ok := v.(*onnx.Tensor[float32])
		if !ok {
			return nil, fmt.Errorf("run: output %s is not float32", ports[i].Name)
		}
		tensors[ports[i].Name] = heads.Tensor{Shape: t.GetShape(), Data: t.GetData()}
	}
	return tensors, nil
}

// destroyFresh frees the values that the library allocated in a run.
func destroyFresh(kept, values []onnx.Value) {
	for i, v := range values {
		if kept[i] == nil && v != nil {
			_ = v.Destroy() // frees memory, always nil
		}
	}
}

// take takes an idle slot or makes one, which takes microseconds.
func (s *session) take(batch int64) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, sl := range slices.Backward(s.idle) {
		if sl.batch == batch {
			s.idle = slices.Delete(s.idle, i, i+1)
			return sl, nil
		}
	}
	options, err := onnx.NewRunOptions()
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	sl := &slot{batch: batch, options: options, values: make([]onnx.Value, len(s.outputs))}
	tensors := make(map[string]heads.Tensor, len(s.outputs))
	for i, p := range s.outputs {
		shape, known := outputShape(p.Shape, s.signature.Inputs[0].Shape, batch)
		if !known {
			continue
		}
		t, err := onnx.NewEmptyTensor[float32](shape)
		if err != nil {
			sl.destroy()
			return nil, fmt.Errorf("run: output %s: %w", p.Name, err)
		}
		sl.pin.Pin(&t.GetData()[0])
		sl.values[i] = t
		tensors[p.Name] = heads.Tensor{Shape: t.GetShape(), Data: t.GetData()}
	}
	if len(tensors) == len(s.outputs) {
		sl.tensors = tensors
	}
	return sl, nil
}

// outputShape is the shape of an output for that batch, and whether it is known before the run. An open first axis is
// taken for the batch only where the input's is open too; any other open axis is for the library to find out.
func outputShape(shape, input []int64, batch int64) (onnx.Shape, bool) {
	if len(shape) == 0 {
		return nil, false
	}
	result := onnx.NewShape(shape...).Clone()
	if result[0] < 0 && len(result) > 1 && len(input) > 0 && input[0] < 0 {
		result[0] = batch
	}
	for _, n := range result {
		if n <= 0 {
			return nil, false
		}
	}
	return result, true
}

// give puts a slot back for the next run.
func (s *session) give(sl *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, sl)
	if s.freed || len(s.idle) > maxIdle {
		s.idle[0].destroy()
		s.idle = slices.Delete(s.idle, 0, 1)
	}
}

func (sl *slot) destroy() {
	_ = sl.options.Destroy() // frees memory, always nil
	for _, v := range sl.values {
		if v != nil {
			_ = v.Destroy()
		}
	}
	sl.pin.Unpin()
}

// Close waits for the runs under way and frees the model. Outputs that are still held stay valid.
func (s *session) Close() error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.idle {
		sl.destroy()
	}
	s.idle = nil
	s.freed = true
	if err := s.onnx.Destroy(); err != nil {
		return fmt.Errorf("close session: %w", err)
	}
	return nil
}
