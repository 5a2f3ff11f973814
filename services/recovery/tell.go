package recovery

import (
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
)

// area is that of every event that this package tells.
const area = "recovery"

// Facts of events.
const (
	factToken = "token"
	// factCase names the case that an event closes.
	factCase = "case"
)

// Events that close a case.
const (
	kindDead     = "worker_dead"
	kindReturned = "worker_returned"
)

// kindReconnected tells of a case that closes by itself.
const kindReconnected = "worker_reconnected"

// telling is what is told when a case was dealt with.
func (d death) telling() (kind string, state fleet.State, action string) {
	switch d.cause {
	case causeReturned:
		return kindReturned, fleet.Alive, "handed over what it let go of"
	case causeReconnected:
		return kindReconnected, fleet.Alive, "handed back what was on its way to workers of its service and reached none"
	}
	return kindDead, fleet.Dead, "handed over what it held"
}

// tell tells of a deed of the leader.
func (s *Service) tell(kind, name string, lead lease.Leadership, fill func(*events.Event)) {
	e := events.Event{Area: area, Kind: kind, Name: name, Facts: map[string]string{factToken: strconv.FormatUint(lead.Token(), 10)}}
	fill(&e)
	s.events.Tell(e)
}

func parseToken(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // 0 is before every token
	return n
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
