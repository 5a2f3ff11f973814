// Package fleet is who is at work: every process of a service keeps an entry in the bucket WORKERS that says what it
// serves and which messages it holds, and rewrites it with every beat. Who stops beating is declared dead by recovery,
// which hands its messages to the others.
//
// # The lease
//
// An entry is written by compare-and-set and lives for [streams.WorkerTTL]. It is a lease: a worker whose beats do not
// get through knows by its own clock that it may have been declared dead, and has no effects before a beat succeeds
// ([Member.Await]). Whoever declares it dead writes a tombstone in the place of the entry first ([Bury]), so its next
// beat fails: it lets go of everything it holds, without an acknowledgement, takes a new incarnation and goes on. Effects
// that slip through between the check and the deed are repeats of what the successor does, under the same ids.
//
// # What an entry cannot say
//
// Messages that a worker took after its last beat are in no entry. Whoever hands over what a worker held finds those
// among the messages of its work groups that no living worker claims.
package fleet

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/streams"
)

const (
	// BeatEvery is how often an entry is rewritten.
	BeatEvery = 200 * time.Millisecond
	// FreshFor is how long after a beat its worker may act. It is no longer than the silence after which a worker is
	// declared dead.
	FreshFor = time.Second
)

// State says whether an entry is a worker's or its tombstone.
type State string

// The states.
const (
	Alive State = "alive"
	Dead  State = "dead"
)

// Worker is an entry of WORKERS.
type Worker struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	// Incarnation is new for every start of a process and after it was declared dead.
	Incarnation string     `json:"incarnation"`
	State       State      `json:"state"`
	Host        string     `json:"host"`
	Region      string     `json:"region,omitempty"`
	PID         int        `json:"pid"`
	Started     time.Time  `json:"started"`
	At          time.Time  `json:"at"` // of this beat, by the worker's clock
	Connection  Connection `json:"connection"`
	// Lanes are what an infer worker serves.
	Lanes []Lane `json:"lanes,omitempty"`
	// Capacity is how many messages a worker may hold at a time, how many cameras an ingest may capture.
	Capacity int `json:"capacity"`
	// Ready are cameras that others own and this ingest is to get: it sees them already. Not necessarily all.
	Ready  []string `json:"ready,omitempty"`
	Load   Load     `json:"load"`
	Claims []Claim  `json:"claims,omitempty"`
	// Epitaph is what a tombstone says.
	Epitaph *Epitaph `json:"epitaph,omitempty"`
}

// Connection is a worker's connection to the broker, as the server's disconnect events name it.
type Connection struct {
	Server string `json:"server"`
	Client uint64 `json:"client"`
}

// Lane is a model and one of its lanes.
type Lane struct {
	Model   string       `json:"model"`
	Lane    streams.Lane `json:"lane"`
	Version int          `json:"version,omitempty"`
}

// Load is how much a worker has to do.
type Load struct {
	Busy float64 `json:"busy"` // share of its handlers at work, 0 to 1, over the last second
}

// Claim is what a worker has of one work group.
type Claim struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Held are in the worker's hands.
	Held []Delivery `json:"held,omitempty"`
	// Resting were handed back with a delay that is not over: they are nobody's, and come back by themselves.
	Resting []Delivery `json:"resting,omitempty"`
}

// Delivery is a message's sequence in its stream and how often it had been delivered.
type Delivery [2]uint64

// Sequence is the message's sequence in its stream.
func (d Delivery) Sequence() uint64 { return d[0] }

// Epitaph says who declared a worker dead, and why.
type Epitaph struct {
	By    string    `json:"by"`
	Token uint64    `json:"token"` // fencing token of the recovery leader
	Cause string    `json:"cause"`
	At    time.Time `json:"at"`
}

// Key is the worker's key in WORKERS.
func (w Worker) Key() string { return Key(w.Service, w.Instance) }

// Key is the key of an instance of a service in WORKERS.
func Key(service, instance string) string { return service + "." + instance }

// Decode reads an entry.
func Decode(data []byte) (Worker, error) {
	var w Worker
	if err := json.Unmarshal(data, &w); err != nil {
		return w, fmt.Errorf("worker: %w", err)
	}
	for _, token := range []string{w.Service, w.Instance} {
		if err := streams.CheckToken(token); err != nil {
			return w, fmt.Errorf("worker: %w", err)
		}
	}
	if w.Incarnation == "" || w.State != Alive && w.State != Dead {
		return w, fmt.Errorf("worker %s: incarnation %q, state %q", w.Key(), w.Incarnation, w.State)
	}
	return w, nil
}
