package repair

import (
	"context"
	"time"
)

const (
	// relapsesFree is how often the same alteration is mended at once: people repeat themselves, too.
	relapsesFree = 5
	// relapseAgain is the time until it is mended once more after that; it doubles up to relapseAgainTo.
	relapseAgain   = 10 * time.Second
	relapseAgainTo = 10 * time.Minute
	// relapseForgot is after how long the same alteration is another one.
	relapseForgot = 2 * relapseAgainTo
)

// relapse remembers an alteration that was mended. One that comes back every time has an author who does not give in: the
// server, which fills in a limit of its own, a controller that keeps another declaration, or a newer version of this program.
// To mend it with every sweep would only fill EVENTS, and make consumers start anew.
type relapse struct {
	detail string
	times  int
	last   time.Time
	wait   time.Duration
	told   bool
}

// due reports whether an alteration should be mended now.
func (l *relapse) due(detail string, now time.Time) bool {
	if l.detail != detail || now.Sub(l.last) > relapseForgot {
		*l = relapse{detail: detail}
	}
	return now.Sub(l.last) >= l.wait
}

// mended notes that it was.
func (l *relapse) mended(now time.Time) {
	l.last = now
	if l.times++; l.times >= relapsesFree {
		l.wait = min(max(2*l.wait, relapseAgain), relapseAgainTo)
	}
}

// mendAltered does an action about an alteration, unless that comes back whenever it is mended: then it does so ever less
// often, and tells that once. It reports whether this was the time to do it.
func (r *Repair) mendAltered(ctx context.Context, a action) bool {
	l := r.relapses[a.target]
	if l == nil {
		l = &relapse{}
		r.relapses[a.target] = l
	}
	if l.due(a.detail, time.Now()) {
		if r.act(ctx, a) {
			l.mended(time.Now())
		}
		return true
	}
	if !l.told && r.confirmed(ctx) {
		l.told = true
		a.cause, a.name = "relapse", "none"
		a.detail += ": it is altered again whenever it is mended, by the server or by a controller with another declaration; it is mended less often now"
		r.tell(a, beyond)
	}
	return false
}
