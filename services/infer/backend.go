package infer

import (
	"context"
	"errors"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer/heads"
)

// ErrClosed is what Run returns after Close.
var ErrClosed = errors.New("the session is closed")

// A Backend runs model files. services/infer/ort is the one that production uses, [Fake] the one for tests; both pass
// backendtest.Run.
type Backend interface {
	// Load makes a session of a model file. The error of a file that cannot be used says what is wrong with it. Load does
	// not compare the file with the declaration: [Load] in this package does.
	Load(ctx context.Context, a model.Artifact, o Options) (Session, error)
}

// A Session is a loaded model. Any number of goroutines may call Run at a time.
type Session interface {
	// Signature is what the file says about its inputs and outputs.
	Signature() model.Signature
	// Run runs the model on one batch. It returns soon after ctx ends, with the cause of that in the error. It does not
	// keep b.Data. The caller owns the outputs until it calls their Release.
	Run(ctx context.Context, b Batch) (*Outputs, error)
	// Close waits for the runs under way and frees the model. A second call does nothing.
	Close() error
}

// Options are how a model is run, as opposed to what it is.
type Options struct {
	// Providers are the execution providers to use, first choice first. None means the CPU.
	Providers []Provider
	// IntraOpThreads is the number of threads within a run; 0 means 1. Parallelism comes from runs at the same time.
	IntraOpThreads int
	// Ladder holds the batch sizes that runs are padded to, for devices that compile a plan for each size. None means no
	// padding. Sizes above the model's max_batch_size are ignored.
	Ladder []int
}

// A Provider is an execution provider of a backend, such as cuda, tensorrt or openvino, with its own options.
type Provider struct {
	Name    string
	Options map[string]string
}

// A Batch is the one input of a run: float32, the first axis is the batch.
type Batch struct {
	Shape []int64
	Data  []float32
}

// Outputs are the float32 outputs of a run. Release gives their memory back to the session: the tensors must not be
// touched afterwards.
type Outputs struct {
	// Tensors are the outputs by name.
	Tensors map[string]heads.Tensor
	release func()
}

// NewOutputs makes outputs; release may be nil and is called at most once.
func NewOutputs(tensors map[string]heads.Tensor, release func()) *Outputs {
	return &Outputs{Tensors: tensors, release: release}
}

// Release ends the use of the outputs.
func (o *Outputs) Release() {
	if o.release != nil {
		o.release()
		o.release = nil
	}
}
