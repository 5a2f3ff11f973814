package ingest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
)

const (
	// silentFor is how long an instance may be silent before its cameras are placed with others. They wait for its leases
	// even so: those end when it is declared dead, or expire.
	silentFor = 1500 * time.Millisecond
	// settledFor is how long members and placement must have been as they are before a camera is handed over.
	settledFor = time.Second
	// handOverEvery is the pace at which cameras are handed over, so that not all of them are in motion at once.
	handOverEvery = 250 * time.Millisecond
	// movesAtOnce is how many cameras an owner offers a successor at a time: so many does that one connect to meanwhile.
	movesAtOnce = 8
	// readyWithin is how long a successor may take for that. A camera that lets only one look never lets it.
	readyWithin = 5 * time.Second
	// aliveFor is how long ago a successor may have been heard for a camera to be handed to it.
	aliveFor = 3 * fleet.BeatEvery
	// placeEvery is how often an instance looks who is there.
	placeEvery = 100 * time.Millisecond
	// suspectAfter and suspectBeats are how long an owner may be silent before others connect to its cameras, by the clock and
	// in own beats that came through: nobody is silent because the broker is. suspectFor is how long they stay connected
	// after its next beat.
	suspectAfter = 500 * time.Millisecond
	suspectBeats = 2
	suspectFor   = 3 * time.Second
)

// placer knows which cameras this instance is to capture. It follows who is there and who holds what, and holds still
// while it hears nothing.
type placer struct {
	self    string
	fleet   *fleet.View // nil: this instance is alone and captures everything
	holders *lease.View
	tell    func(events.Event)

	cameras  []string
	members  map[string]int // and how many cameras each can take
	owners   map[string]string
	previous map[string]lease.Holder // who had a camera last
	placed   map[string]string
	heirs    map[string]map[string]string // by owner: who would have the cameras without it; filled when asked
	suspects map[string]time.Time         // when they were silent last
	moves    map[string]move              // of the cameras that are handed over now
	unplaced map[string]bool              // that was told
	settled  time.Time                    // since when members and placement are as they are
	next     time.Time                    // when the next camera may be handed over
}

// move is a camera's way from its owner, who is alive, to the member that it is placed with.
type move struct {
	from, to string
	since    time.Time // when it was first on offer
}

func newPlacer(self string, view *fleet.View, holders *lease.View, tell func(events.Event)) *placer {
	return &placer{self: self, fleet: view, holders: holders, tell: tell, unplaced: map[string]bool{}, suspects: map[string]time.Time{}}
}

// changed closes when somebody comes or goes, or gets or loses a lease. It is asked for before update.
func (p *placer) changed() (members, holders <-chan struct{}) {
	if p.fleet == nil {
		return nil, nil
	}
	return p.fleet.Changed(), p.holders.Changed()
}

// update places the cameras anew. Of held this instance knows itself that it has them.
func (p *placer) update(now time.Time, cameras []string, held map[string]bool) {
	if p.fleet == nil {
		return
	}
	select {
	case <-p.holders.Filled():
	default:
		return
	}
	if !p.fleet.Hears() {
		p.settled = now
		clear(p.moves)
		clear(p.suspects)
		return
	}
	living := p.fleet.Living("ingest")
	hearing := now.Sub(living[p.self].Heard) < suspectAfter
	members := map[string]int{}
	for name, w := range living {
		if now.Sub(w.Heard) < silentFor {
			members[name] = w.Capacity
		}
		if hearing && now.Sub(w.Heard) > suspectAfter && w.Missed >= suspectBeats {
			p.suspects[name] = now
		}
	}
	maps.DeleteFunc(p.suspects, func(_ string, at time.Time) bool { return now.Sub(at) > suspectFor })
	leases, _ := p.holders.All()
	owners, previous := map[string]string{}, map[string]lease.Holder{}
	for _, c := range cameras {
		previous[c] = p.previous[c]
		if h, ok := leases[c]; ok {
			owners[c], previous[c] = h.Instance, h
		}
		if held[c] {
			owners[c], previous[c] = p.self, lease.Holder{Instance: p.self}
		}
	}
	p.previous = previous
	if slices.Equal(cameras, p.cameras) && maps.Equal(members, p.members) && maps.Equal(owners, p.owners) {
		p.offer(now)
		return
	}
	placed := place(cameras, owners, members)
	if !maps.Equal(members, p.members) || !maps.Equal(placed, p.placed) {
		p.settled = now
	}
	p.cameras, p.members, p.owners, p.placed, p.heirs = cameras, members, owners, placed, map[string]map[string]string{}
	p.offer(now)
	p.tellUnplaced()
}

// offer chooses the cameras that are handed over now: owner and successor choose the same.
func (p *placer) offer(now time.Time) {
	moves := map[string]move{}
	pairs := map[move]int{}
	for _, c := range p.cameras {
		from, to := p.owners[c], p.placed[c]
		if _, alive := p.members[from]; !alive || to == "" || to == from {
			continue
		}
		m := move{from: from, to: to}
		if pairs[m]++; pairs[m] > movesAtOnce {
			continue
		}
		m.since = now
		if before, ok := p.moves[c]; ok && before.from == from && before.to == to {
			m.since = before.since
		}
		moves[c] = m
	}
	p.moves = moves
}

// successor reports whether another instance is about to hand a camera to this one.
func (p *placer) successor(camera string) bool {
	m, moves := p.moves[camera]
	return moves && m.to == p.self
}

// standsBy reports whether this instance is to be connected to a camera of another one, which it would get if that one
// ended: always, or while that one is silent.
func (p *placer) standsBy(camera string, always bool) bool {
	owner := p.previous[camera].Instance // until somebody else has it
	if owner == "" || owner == p.self {
		return false
	}
	if _, suspect := p.suspects[owner]; !suspect && !always {
		return false
	}
	heirs, known := p.heirs[owner]
	if !known {
		others := maps.Clone(p.members)
		delete(others, owner)
		for name := range p.suspects { // two instances of one host
			delete(others, name)
		}
		heirs = place(p.cameras, p.owners, others)
		p.heirs[owner] = heirs
	}
	return heirs[camera] == p.self
}

// predecessor is who else had a camera last, if anybody had.
func (p *placer) predecessor(camera string) lease.Holder {
	if h := p.previous[camera]; h.Instance != p.self {
		return h
	}
	return lease.Holder{}
}

// tellUnplaced tells of cameras that nobody has room for: the first of all members does.
func (p *placer) tellUnplaced() {
	if len(p.members) == 0 || slices.Min(slices.Collect(maps.Keys(p.members))) != p.self {
		clear(p.unplaced)
		return
	}
	capacity := 0
	for _, n := range p.members {
		capacity += n
	}
	if capacity == 0 { // they have just been started, or are about to stop
		return
	}
	unplaced := map[string]bool{}
	for _, c := range p.cameras {
		if _, ok := p.placed[c]; ok || p.owners[c] != "" {
			continue
		}
		unplaced[c] = true
		if !p.unplaced[c] {
			p.tell(events.Event{
				Area: "camera", Kind: "placement", Name: c, State: "unplaced",
				Detail: fmt.Sprintf("%d cameras, and instances for %d: start another ingest", len(p.cameras), capacity),
			})
		}
	}
	for c := range p.unplaced {
		if _, ok := p.placed[c]; ok {
			p.tell(events.Event{Area: "camera", Kind: "placement", Name: c, State: "placed"})
		}
	}
	p.unplaced = unplaced
}

// mine reports whether this instance is to capture a camera.
func (p *placer) mine(camera string) bool { return p.fleet == nil || p.placed[camera] == p.self }

// mayHandOver reports whether a camera that this instance holds is to be given away now: its successor sees the camera
// already, or had time enough. The next one's turn comes later.
func (p *placer) mayHandOver(now time.Time, camera string) bool {
	m, moves := p.moves[camera]
	if !moves || m.from != p.self || now.Sub(p.settled) < settledFor || now.Before(p.next) {
		return false
	}
	to, alive := p.fleet.Living("ingest")[m.to]
	if !alive || now.Sub(to.Heard) > aliveFor {
		return false
	}
	if !slices.Contains(to.Ready, camera) && now.Sub(m.since) < readyWithin {
		return false
	}
	p.next = now.Add(handOverEvery)
	return true
}
