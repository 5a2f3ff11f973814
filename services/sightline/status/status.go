// Package status is the whole system at a glance: the broker, who is at work, what cameras do, whether the books balance, what
// was quarantined, what is drifting; and what of it needs attention, with what to do. It only reads.
//
// # What it promises
//
// Everything is read once, as of now, side by side. What cannot be read is a problem of its own: a part that is missing never
// looks healthy. [System.Judge] decides from what was read alone.
package status

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/conditions"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

// System is what was read.
type System struct {
	At       time.Time       `json:"at"`
	Broker   Broker          `json:"broker"`
	Services []Service       `json:"services"`
	Cameras  []Camera        `json:"cameras"`
	Models   []Model         `json:"models"`
	Books    Books           `json:"books"`
	DLQ      Quarantined     `json:"quarantined"`
	Sampling *sampling.State `json:"sampling,omitempty"` // nil: all cameras at their full rate
	Queues   []Queue         `json:"queues"`
	// Drift is nil when nobody watches for it.
	Drift *drift.Report `json:"drift,omitempty"`
	// Conditions are cameras whose answers are marked degraded, by name.
	Conditions map[string]conditions.Condition `json:"conditions,omitempty"`
	Problems   []Problem                       `json:"problems"`
	Healthy    bool                            `json:"healthy"`
}

// Broker is what the operator's user sees of the broker.
type Broker struct {
	Server  string   `json:"server"` // the node that was asked
	Cluster string   `json:"cluster,omitempty"`
	Nodes   []Node   `json:"nodes"` // those that hold streams
	Streams []Stream `json:"streams"`
	Missing []string `json:"missing,omitempty"` // streams and buckets that are declared and not there
	Bytes   uint64   `json:"bytes"`             // of all streams
}

// Node is a node of the broker as seen by the leaders of streams.
type Node struct {
	Name    string `json:"name"`
	Offline bool   `json:"offline,omitempty"`
	Leads   int    `json:"leads"`
}

// Stream is a stream, or one that holds a bucket.
type Stream struct {
	Name      string   `json:"name"`
	Leader    string   `json:"leader,omitempty"` // "" while there is none
	Replicas  int      `json:"replicas"`
	Behind    []string `json:"behind,omitempty"` // replicas that are away, or not up to date
	Messages  uint64   `json:"messages"`
	Bytes     uint64   `json:"bytes"`
	Clustered bool     `json:"-"` // whether the broker has several nodes
}

// Service is one service and its processes.
type Service struct {
	Name    string   `json:"name"`
	Alive   []string `json:"alive"`
	Dead    []Death  `json:"dead,omitempty"` // within the last hour
	Leader  string   `json:"leader,omitempty"`
	Leads   bool     `json:"elects,omitempty"` // whether its replicas elect a leader
	Busiest float64  `json:"busiest"`          // share of the busiest process's handlers at work
}

// Death is a process that was declared dead.
type Death struct {
	Instance string    `json:"instance"`
	Cause    string    `json:"cause"`
	At       time.Time `json:"at"`
}

// Camera is a camera and what is heard of it.
type Camera struct {
	Name     string           `json:"name"`
	Enabled  bool             `json:"enabled"`
	State    string           `json:"state"`
	Cause    string           `json:"cause,omitempty"`
	Since    time.Time        `json:"since,omitzero"`
	Holder   string           `json:"holder,omitempty"`
	Delivery streams.Delivery `json:"delivery,omitempty"`
	FPS      float64          `json:"fps,omitempty"`
	Answers  []LastAnswer     `json:"answers"` // one for each model that looks at it
}

// LastAnswer is the newest message about a camera from one model.
type LastAnswer struct {
	Model  string    `json:"model"`
	At     time.Time `json:"at,omitzero"`      // when it was stored; zero: never, within 24 hours
	AgeMS  float64   `json:"age_ms,omitempty"` // of the picture when its answer was ready
	Gap    string    `json:"gap,omitempty"`    // the reason, when nobody can look
	Status string    `json:"status,omitempty"` // ok, degraded, unknown
}

// Model is a declared model.
type Model struct {
	Name    string    `json:"name"`
	Version int       `json:"version"`
	Served  int       `json:"served"` // by how many processes
	Refused string    `json:"refused,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Books are what the ledger comes to.
type Books struct {
	Captured    uint64        `json:"captured"`
	Predicted   uint64        `json:"predicted"`
	Superseded  uint64        `json:"superseded"`
	Expired     uint64        `json:"expired"`
	Quarantined uint64        `json:"quarantined"`
	InFlight    uint64        `json:"in_flight"`
	Lost        uint64        `json:"lost"`
	Unbalanced  []ledger.Line `json:"unbalanced,omitempty"`
}

// Quarantined is what DLQ holds.
type Quarantined struct {
	Messages uint64            `json:"messages"`
	LastHour uint64            `json:"last_hour"`
	By       map[string]uint64 `json:"by,omitempty"` // stage and camera
}

// Queue is a work group and what waits for it.
type Queue struct {
	Stream      string `json:"stream"`
	Group       string `json:"group"`
	Waiting     uint64 `json:"waiting"`
	InHand      int    `json:"in_hand"`
	Redelivered int    `json:"redelivered"`
	Workers     int    `json:"workers"` // who serve it
}

// Problem is something that needs attention.
type Problem struct {
	Area  string    `json:"area"` // broker, services, cameras, models, books, dlq, capacity, drift
	Name  string    `json:"name,omitempty"`
	What  string    `json:"what"`
	Since time.Time `json:"since,omitzero"`
	Do    string    `json:"do"`
	Page  string    `json:"page,omitempty"` // anchor of docs/runbooks.md
}

// Take reads a system and judges it. log gets what views have to say.
func Take(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, log *slog.Logger) System {
	s := &System{At: time.Now().UTC()}
	r := &reader{nc: nc, js: js, log: log, system: s}
	var wg sync.WaitGroup
	for _, part := range []struct {
		name string
		read func(context.Context) error
	}{
		{"broker", r.readBroker},
		{"services", r.readFleet},
		{"books", r.readBooks},
		{"dlq", r.readDLQ},
		{"capacity", r.readSampling},
		{"drift", r.readDrift},
	} {
		wg.Go(func() {
			if err := part.read(ctx); err != nil {
				r.failed(part.name, err)
			}
		})
	}
	wg.Wait()
	s.Judge()
	return *s
}
