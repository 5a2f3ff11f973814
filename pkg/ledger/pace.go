package ledger

import "time"

// FlushInterval is how often a Reporter writes what it gathered: one message per camera and interval.
const FlushInterval = 500 * time.Millisecond

// MaxFlushInterval is how often it does so when it has very many cameras.
const MaxFlushInterval = 5 * time.Second

// pace is how often reporters report: the longest interval that a record told of lately. Everything that the books
// wait for follows from it. A mark is in LEDGER one interval after what it tells of at the latest, or two when a flush
// failed; so nothing is concluded before two have passed, and room for a slow broker on top. The interval travels in
// the records because a constant would have to be the longest there is, and a small system would wait for nothing.
type pace time.Duration

// settle is added to a camera's max_age before the books conclude anything: 3 s at the shortest interval.
func (p pace) settle() time.Duration { return 2*time.Duration(p) + 2*time.Second }

// held is how old the figures of what streams hold must be: what left a stream since then has its fate in the books.
func (p pace) held() time.Duration { return 2*time.Duration(p) + time.Second }

// everySettle is when an every_frame frame that no stream holds any more counts as lost: it is longer than figures of
// what streams hold get old (twice held, and the time between two looks at the books), so that these figures have it.
func (p pace) everySettle() time.Duration { return 4*time.Duration(p) + 13*time.Second }

// late is how much later than an incident somebody may have told what he saw before it.
func (p pace) late() time.Duration { return 2 * time.Duration(p) }

// warmUp is the part of a ledger that begins in the middle which is only read for its routes: of the frames in
// it something may already be forgotten.
func (p pace) warmUp() time.Duration { return 2*time.Duration(p) + 4*time.Second }

// explain is how long before the ledger heard of a frame its fate may have been stored, and how long after the
// last word of an epoch somebody who was killed may have stored another.
func (p pace) explain() time.Duration { return 2*time.Duration(p) + 9*time.Second }

// paceWindow is how long an interval that was told counts, by the clock of the records.
const paceWindow = time.Minute

// paces remembers the longest interval of this window and of the one before.
type paces struct {
	Began    time.Time     `json:"began"`
	Now      time.Duration `json:"now"`
	Previous time.Duration `json:"previous"`
}

func (p *paces) add(r Record) {
	every := min(max(time.Duration(min(r.Every, int64(MaxFlushInterval/time.Millisecond)))*time.Millisecond, FlushInterval), MaxFlushInterval)
	if r.At.Sub(p.Began) > paceWindow {
		p.Began, p.Now, p.Previous = r.At, 0, p.Now
	}
	p.Now = max(p.Now, every)
}

func (p *paces) pace() pace { return pace(max(p.Now, p.Previous, FlushInterval)) }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
