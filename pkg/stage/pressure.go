package stage

import (
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	pressureDelay   = 100 * time.Millisecond // doubled each time, up to
	pressureDelayTo = 10 * time.Second
	pressureLimit   = 1 << 16 // messages remembered
)

// errSubjectFull means that the output's subject has all it may hold: one camera's queue for one model. The message is
// handed back for a while, so that those of other cameras pass; that is not its fault and does not count as an attempt.
var errSubjectFull = errors.New("the output's subject is full")

// subjectFull recognises the broker's refusal. It has a code for "not stored" alone, and says why in words.
func subjectFull(err error) bool {
	const storeFailed, why = 10077, "maximum messages per subject exceeded"
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == storeFailed && api.Description == why
}

// pressure remembers how often this process handed a message back because of errSubjectFull. Another process does not
// know: it may count such deliveries as attempts, and quarantine the message after some minutes of a queue that stays
// full. That keeps its payload.
type pressure struct {
	mu    sync.Mutex
	times map[message]int
}

// message is a message's place in its stream.
type message struct {
	stream string
	seq    uint64
}

// handBack counts, and returns how long the message stays away.
func (p *pressure) handBack(m Message) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = map[message]int{}
	}
	k := message{m.Stream, m.Sequence}
	if _, known := p.times[k]; !known && len(p.times) >= pressureLimit {
		for other := range p.times { // any
			delete(p.times, other)
			break
		}
	}
	n := p.times[k]
	p.times[k]++
	return min(pressureDelay<<min(n, 10), pressureDelayTo)
}

func (p *pressure) count(m Message) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times[message{m.Stream, m.Sequence}]
}

func (p *pressure) forget(m Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.times, message{m.Stream, m.Sequence})
}
