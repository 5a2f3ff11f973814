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

// pressure remembers which messages this process handed back because of errSubjectFull: the handler had answered them, so
// that whatever befell them before is no attempt. Another process does not know: it counts such deliveries as attempts, and
// makes suspects of messages that its own strikes acquit.
type pressure struct {
	mu    sync.Mutex
	known map[message]pressed
}

type pressed struct {
	times     int
	delivered uint64 // when it was handed back last
}

// message is a message's place in its stream.
type message struct {
	stream string
	seq    uint64
}

// handBack counts, and returns how long the message stays away.
func (p *pressure) handBack(m Message, delivered uint64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[message]pressed{}
	}
	k := message{m.Stream, m.Sequence}
	if _, known := p.known[k]; !known && len(p.known) >= pressureLimit {
		for other := range p.known { // any
			delete(p.known, other)
			break
		}
	}
	n := p.known[k].times
	p.known[k] = pressed{n + 1, delivered}
	return min(pressureDelay<<min(n, 10), pressureDelayTo)
}

// excused is how many deliveries of a message are no attempts.
func (p *pressure) excused(m Message) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[message{m.Stream, m.Sequence}].delivered
}

func (p *pressure) forget(m Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, message{m.Stream, m.Sequence})
}
