package streams

import "github.com/nats-io/nats.go/jetstream"

// WorkGroup is one work group as declared, for those who describe or inspect it. To take part in one, bind to it.
type WorkGroup struct {
	Stream string
	Config jetstream.ConsumerConfig
}

// WorkGroups are all work groups of a system with one model's lane.
func WorkGroups(model string, lane Lane) []WorkGroup {
	var out []WorkGroup
	for _, groups := range [][]consumer{preprocessGroups(), inferGroups(model, lane)} {
		for _, g := range groups {
			out = append(out, WorkGroup{Stream: g.stream, Config: g.config})
		}
	}
	return out
}
