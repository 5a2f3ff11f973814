package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Bounds of what is read of a file's header; no real model comes near.
const (
	maxNameLength = 4096
	maxPorts      = 4096
	maxRank       = 32
)

var errTruncated = errors.New("the file ends in the middle")

// ReadSignature reads the inputs and outputs of an ONNX file without ONNX Runtime and without reading its weights, so
// that anybody can learn the size of a model's input. A file that is cut off, or is something else, is an error.
func ReadSignature(path string) (Signature, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Signature{}, fmt.Errorf("read signature: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return Signature{}, fmt.Errorf("read signature: %w", err)
	}
	sig, err := parseSignature(f, info.Size())
	if err != nil {
		return Signature{}, fmt.Errorf("%s is not a complete ONNX file: %w", path, err)
	}
	return sig, nil
}

// The field numbers of onnx.proto that matter here.
const (
	modelGraph       = 7
	graphInitializer = 5
	graphInput       = 11
	graphOutput      = 12
	tensorName       = 8
	valueName        = 1
	valueType        = 2
	typeTensor       = 1
	tensorElemType   = 1
	tensorShape      = 2
	shapeDim         = 1
	dimValue         = 1
)

func parseSignature(r io.ReaderAt, size int64) (Signature, error) {
	var sig Signature
	weights := map[string]bool{} // old files list their weights as inputs too
	graphs := 0
	err := walk(r, 0, size, func(m message) error {
		if m.field != modelGraph {
			return nil
		}
		graphs++
		return m.walk(func(m message) error { return readGraph(m, &sig, weights) })
	})
	if err == nil && graphs != 1 {
		err = fmt.Errorf("it holds %d graphs", graphs)
	}
	if err == nil && len(sig.Outputs) == 0 {
		err = errors.New("its graph has no outputs")
	}
	if err != nil {
		return Signature{}, err
	}
	var inputs []Port
	for _, p := range sig.Inputs {
		if !weights[p.Name] {
			inputs = append(inputs, p)
		}
	}
	sig.Inputs = inputs
	return sig, nil
}

func readGraph(m message, sig *Signature, weights map[string]bool) error {
	switch m.field {
	case graphInitializer:
		return m.walk(func(m message) error {
			if m.field != tensorName {
				return nil
			}
			name, err := m.text()
			weights[name] = true
			return err
		})
	case graphInput, graphOutput:
		dst := &sig.Inputs
		if m.field == graphOutput {
			dst = &sig.Outputs
		}
		if len(*dst) == maxPorts {
			return errors.New("it has too many inputs or outputs")
		}
		p := Port{Type: "unknown"}
		err := m.walk(func(m message) error { return readPort(m, &p) })
		*dst = append(*dst, p)
		return err
	default:
		return nil
	}
}

func readPort(m message, p *Port) (err error) {
	switch m.field {
	case valueName:
		p.Name, err = m.text()
		return err
	case valueType:
		return m.walk(func(m message) error {
			if m.field != typeTensor {
				return nil // a sequence or a map: its type stays unknown
			}
			return m.walk(func(m message) error { return readTensorType(m, p) })
		})
	default:
		return nil
	}
}

func readTensorType(m message, p *Port) error {
	switch m.field {
	case tensorElemType:
		p.Type = elementType(m.value)
		return nil
	case tensorShape:
		return m.walk(func(m message) error {
			if m.field != shapeDim {
				return nil
			}
			if len(p.Shape) == maxRank {
				return errors.New("a shape has too many axes")
			}
			dim := int64(-1)
			err := m.walk(func(m message) error {
				if m.field == dimValue && int64(m.value) > 0 { //nolint:gosec // what overflows is negative and stays open
					dim = int64(m.value) //nolint:gosec // checked in the line above
				}
				return nil
			})
			p.Shape = append(p.Shape, dim)
			return err
		})
	default:
		return nil
	}
}

func elementType(v uint64) string {
	names := [...]string{
		1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string",
		9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
	}
	if v < uint64(len(names)) && names[v] != "" {
		return names[v]
	}
	return fmt.Sprintf("type %d", v)
}

// A message is one field of a protocol buffer: a number, or the place of its bytes.
type message struct {
	r          io.ReaderAt
	field      uint64
	value      uint64 // of a number
	start, end int64  // of bytes; start < 0 where the field is a number
}

func (m message) walk(visit func(message) error) error {
	if m.start < 0 {
		return fmt.Errorf("field %d is a number", m.field)
	}
	return walk(m.r, m.start, m.end, visit)
}

func (m message) text() (string, error) {
	if m.start < 0 || m.end-m.start > maxNameLength {
		return "", errors.New("a name is no text, or is too long")
	}
	b := make([]byte, m.end-m.start)
	if _, err := m.r.ReadAt(b, m.start); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b), nil
}

// walk visits the fields of the message that lies from start to end, reading only their heads.
func walk(r io.ReaderAt, start, end int64, visit func(message) error) error {
	for start < end {
		var head [2 * binary.MaxVarintLen64]byte
		n, err := r.ReadAt(head[:min(int64(len(head)), end-start)], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		b := head[:n]
		tag, used := binary.Uvarint(b)
		if used <= 0 {
			return errTruncated
		}
		b = b[used:]
		start += int64(used)
		m := message{r: r, field: tag >> 3, start: -1}
		var skip uint64
		switch tag & 7 {
		case 0:
			m.value, used = binary.Uvarint(b)
			skip = uint64(max(used, 0))
		case 1:
			used, skip = 1, 8
		case 2:
			var length uint64
			length, used = binary.Uvarint(b)
			start += int64(max(used, 0))
			skip = length
			m.start, m.end = start, start+int64(min(length, uint64(end))) //nolint:gosec // end is not negative
		case 5:
			used, skip = 1, 4
		default:
			return fmt.Errorf("byte %d cannot be read", start)
		}
		if used <= 0 || start > end || skip > uint64(end-start) { //nolint:gosec // not negative
			return errTruncated
		}
		if m.field == 0 {
			return fmt.Errorf("byte %d cannot be read", start)
		}
		if err := visit(m); err != nil {
			return err
		}
		start += int64(skip)
	}
	return nil
}
