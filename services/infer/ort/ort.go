// Package ort runs models with ONNX Runtime. It adapts github.com/yalue/onnxruntime_go to infer.Backend and holds nothing
// else: what a model's outputs mean is not its business. It is the only package that links C code for inference; the
// library itself is loaded when New is called.
//
// # Guarantees
//
// A file that is missing, cut off or no model is an error that names it. A run ends within milliseconds of its context. A
// session's outputs are the caller's until Release, also while others run. Close waits for runs.
//
// # Concurrency
//
// Any number of goroutines may run one session; as many as there are cores is the most that helps, because a run uses
// one thread unless Options say otherwise, and that thread never spins.
//
// # Environment
//
// ONNX Runtime allows one environment for a process. The first New makes it; it is never destroyed, because destroying
// it after a failed execution provider hangs.
package ort

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/ort/library"
)

// environment is the one that the library allows for a process: C state, so it cannot be a field.
var environment struct { //nolint:gochecknoglobals // see above
	sync.Mutex
	library string
}

// A Backend loads models with ONNX Runtime.
type Backend struct{}

var _ infer.Backend = (*Backend)(nil)

// New loads the ONNX Runtime library at that path; an empty path searches for it as [library.Find] does. A process can
// load only one: a second call with the same path shares it, with another is an error.
func New(path string) (*Backend, error) {
	if path == "" {
		var err error
		if path, err = library.Find(os.Getenv); err != nil {
			return nil, err
		}
	}
	environment.Lock()
	defer environment.Unlock()
	if environment.library == path {
		return &Backend{}, nil
	}
	if environment.library != "" {
		return nil, fmt.Errorf("load %s: this process already uses %s", path, environment.library)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("load ONNX Runtime: %w", err)
	}
	onnx.SetSharedLibraryPath(path)
	if err := onnx.InitializeEnvironment(onnx.WithLogLevelError()); err != nil {
		return nil, fmt.Errorf("load ONNX Runtime %s: %w: version 1.24 or newer is needed", path, err)
	}
	environment.library = path
	return &Backend{}, nil
}

// Version is the version of the library.
func (b *Backend) Version() string { return onnx.GetVersion() }

// Load loads a model file.
func (b *Backend) Load(ctx context.Context, a model.Artifact, o infer.Options) (infer.Session, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("load %s: %w", a.Path, err)
	}
	if info, err := os.Stat(a.Path); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	} else if info.IsDir() {
		return nil, fmt.Errorf("load %s: is a directory, not a model file", a.Path)
	}
	options, err := sessionOptions(o)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", a.Path, err)
	}
	defer options.Destroy() //nolint:errcheck // frees memory, always nil
	signature, err := readSignature(a.Path)
	if err != nil {
		return nil, fmt.Errorf("load %s: not a model that ONNX Runtime can read: %w", a.Path, err)
	}
	var inputs, outputs []string
	for _, p := range signature.Inputs {
		inputs = append(inputs, p.Name)
	}
	s := &session{signature: signature}
	for _, p := range signature.Outputs {
		if p.Type == "float32" { // no head reads another type
			outputs = append(outputs, p.Name)
			s.outputs = append(s.outputs, p)
		}
	}
	if len(inputs) == 0 || len(outputs) == 0 {
		return nil, fmt.Errorf("load %s: has no input, or no float32 output: inputs %s, outputs %s",
			a.Path, model.FormatPorts(signature.Inputs), model.FormatPorts(signature.Outputs))
	}
	s.onnx, err = onnx.NewDynamicAdvancedSession(a.Path, inputs, outputs, options)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", a.Path, err)
	}
	return s, nil
}

// readSignature reads the file's inputs and outputs. The library offers this only through a session of its own, so that
// one is made without the optimiser's work.
func readSignature(path string) (model.Signature, error) {
	options, err := onnx.NewSessionOptions()
	if err != nil {
		return model.Signature{}, err
	}
	defer options.Destroy() //nolint:errcheck // frees memory, always nil
	err = errors.Join(
		options.SetGraphOptimizationLevel(onnx.GraphOptimizationLevelDisableAll),
		options.SetIntraOpNumThreads(1),
	)
	if err != nil {
		return model.Signature{}, err
	}
	inputs, outputs, err := onnx.GetInputOutputInfoWithOptions(path, options)
	if err != nil {
		return model.Signature{}, err
	}
	return model.Signature{Inputs: ports(inputs), Outputs: ports(outputs)}, nil
}

func ports(infos []onnx.InputOutputInfo) []model.Port {
	result := make([]model.Port, len(infos))
	for i, info := range infos {
		result[i] = model.Port{Name: info.Name, Type: elementType(info), Shape: info.Dimensions}
	}
	return result
}

func elementType(info onnx.InputOutputInfo) string {
	if info.OrtValueType != onnx.ONNXTypeTensor {
		return info.OrtValueType.String()
	}
	name := strings.ToLower(strings.TrimPrefix(info.DataType.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_"))
	switch name {
	case "float":
		return "float32"
	case "double":
		return "float64"
	default:
		return name
	}
}

func sessionOptions(o infer.Options) (*onnx.SessionOptions, error) {
	options, err := onnx.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		options.SetIntraOpNumThreads(max(o.IntraOpThreads, 1)),
		options.SetInterOpNumThreads(1),
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		options.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
		options.SetLogSeverityLevel(onnx.LoggingLevelError),
	)
	for _, p := range o.Providers {
		if e := appendProvider(options, p); e != nil {
			err = errors.Join(err, fmt.Errorf("execution provider %s: %w", p.Name, e))
		}
	}
	if err != nil {
		return nil, errors.Join(err, options.Destroy())
	}
	return options, nil
}

// appendProvider adds an execution provider by its name. CPU is always there, as the last.
func appendProvider(options *onnx.SessionOptions, p infer.Provider) error {
	switch p.Name {
	case "cpu":
		return nil
	case "cuda":
		cuda, err := onnx.NewCUDAProviderOptions()
		if err != nil {
			return err
		}
		defer cuda.Destroy() //nolint:errcheck // frees memory, always nil
		if err := cuda.Update(p.Options); err != nil {
			return err
		}
		return options.AppendExecutionProviderCUDA(cuda)
	case "tensorrt":
		rt, err := onnx.NewTensorRTProviderOptions()
		if err != nil {
			return err
		}
		defer rt.Destroy() //nolint:errcheck // frees memory, always nil
		if err := rt.Update(p.Options); err != nil {
			return err
		}
		return options.AppendExecutionProviderTensorRT(rt)
	case "openvino":
		return options.AppendExecutionProviderOpenVINO(p.Options)
	default:
		return options.AppendExecutionProvider(p.Name, p.Options)
	}
}
