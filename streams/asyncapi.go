package streams

import "github.com/nats-io/nats.go/jetstream"

// WorkGroup is one work group as declared, for those who describe or inspect it. To take part in one, bind to it.
type WorkGroup struct {
	Stream string
	Config jetstream.ConsumerConfig
}

// WorkGroups are all work groups of a system with one model's lane.
func WorkGroups(model string, lane Lane) []WorkGroup {
	return append(PreprocessGroups(), InferGroups(model, lane)...)
}

// PreprocessGroups are the work groups of the preprocess service.
func PreprocessGroups() []WorkGroup { return workGroups(preprocessGroups()) }

// InferGroups are the work groups of one model's lane.
func InferGroups(model string, lane Lane) []WorkGroup { return workGroups(inferGroups(model, lane)) }

func workGroups(groups []consumer) []WorkGroup {
	out := make([]WorkGroup, len(groups))
	for i, g := range groups {
		out[i] = WorkGroup{Stream: g.stream, Config: g.config}
	}
	return out
}
