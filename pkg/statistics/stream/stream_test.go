package stream_test

import (
	"encoding/json"

	"github.com/sightline-dev/sightline/pkg/statistics/stream"
)

// detector is what all of them have in common.
type detector interface {
	Add(x float64) bool
	Status() stream.Status
	Reset()
	json.Marshaler
	json.Unmarshaler
}

func must[T any](d T, err error) T {
	if err != nil {
		panic(err)
	}
	return d
}
