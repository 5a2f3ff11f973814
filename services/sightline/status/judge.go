package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
)

const (
	// downFor is how long a camera may be anything but live, or without an answer, before it is a problem: handovers and
	// reconnects take that long.
	downFor = 5 * time.Second
	// silentFor is how long answers may be missing from a camera that is live.
	silentFor = 10 * time.Second
	// staleFor is how old what the drift-monitor says may be.
	staleFor = 2 * time.Minute
	// namesShown is how many names a problem lists.
	namesShown = 5
)

// Judge finds what needs attention in what was read, and sorts it.
func (s *System) Judge() {
	s.judgeBroker()
	s.judgeServices()
	s.judgeModels()
	s.judgeCameras()
	s.judgeWork()
	s.judgeDrift()
	slices.SortStableFunc(s.Problems, func(a, b Problem) int {
		return cmp.Compare(slices.Index(areas(), a.Area), slices.Index(areas(), b.Area))
	})
	if s.Problems == nil {
		s.Problems = []Problem{}
	}
	s.Healthy = len(s.Problems) == 0
}

// areas in the order in which they are worth looking at: what is broken further down may break what follows.
func areas() []string {
	return []string{"broker", "services", "books", "models", "cameras", "dlq", "capacity", "drift"}
}

func (s *System) problem(area, name string, since time.Time, page, do, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{Area: area, Name: name, What: fmt.Sprintf(format, args...), Since: since, Do: do, Page: page})
}

func (s *System) judgeBroker() {
	for _, n := range s.Broker.Nodes {
		if n.Offline {
			s.problem("broker", n.Name, time.Time{}, "broker-node-down", "start it again; live streams have moved to their twins, replicated ones have elected", "node %s is away", n.Name)
		}
	}
	var leaderless, behind []string
	for _, st := range s.Broker.Streams {
		away := slices.ContainsFunc(st.Behind, func(name string) bool {
			return !slices.ContainsFunc(s.Broker.Nodes, func(n Node) bool { return n.Name == name && n.Offline })
		})
		switch {
		case st.Clustered && st.Leader == "":
			leaderless = append(leaderless, st.Name)
		case away:
			behind = append(behind, st.Name)
		}
	}
	if len(leaderless) > 0 {
		s.problem("broker", "", time.Time{}, "stream-without-leader", "see that a majority of nodes runs and reach each other; it elects within seconds then", "no leader: %s", names(leaderless))
	}
	if len(behind) > 0 {
		s.problem("broker", "", time.Time{}, "stream-replica-behind", "wait: a replica that comes back catches up; if it lasts, look at that node's disk and network", "a replica is not up to date: %s", names(behind))
	}
	if len(s.Broker.Missing) > 0 {
		s.problem("broker", "", time.Time{}, "stream-missing", "recovery makes them anew within a second; if nobody leads it: sightline apply", "declared and not there: %s", names(s.Broker.Missing))
	}
}

func (s *System) judgeServices() {
	for _, v := range s.Services {
		needed := slices.Contains(wanted(), v.Name)
		switch {
		case needed && len(v.Alive) == 0:
			s.problem("services", v.Name, lastDeath(v), "service-down", "start "+v.Name+"; why the last one ended: sightline events --area recovery --since 1h", "nobody runs %s", v.Name)
		case v.Leads && v.Leader == "" && len(v.Alive) > 0:
			s.problem("services", v.Name, time.Time{}, "no-leader", "a standby takes the lease within 5 seconds; if none does, look at its log", "nobody leads %s", v.Name)
		}
	}
}

func lastDeath(v Service) time.Time {
	if n := len(v.Dead); n > 0 {
		return v.Dead[n-1].At
	}
	return time.Time{}
}

func (s *System) judgeModels() {
	for _, m := range s.Models {
		switch {
		case m.Refused != "":
			s.problem("models", m.Name, m.Since, "model-refused", "mend the model, or apply the version before: what was loaded goes on serving", "version %d of %s is refused: %s", m.Version, m.Name, m.Refused)
		case m.Served == 0 && slices.ContainsFunc(s.Services, func(v Service) bool { return v.Name == "infer" && len(v.Alive) > 0 }):
			s.problem("models", m.Name, time.Time{}, "model-not-served", "sightline events --area model --since 1h", "no process serves %s", m.Name)
		}
	}
}

func (s *System) judgeCameras() {
	for _, c := range s.Cameras {
		if !c.Enabled {
			continue
		}
		if c.State != stateLive {
			if !c.Since.IsZero() && s.At.Sub(c.Since) < downFor {
				continue
			}
			what := "is " + c.State
			if c.Cause != "" {
				what += ": " + c.Cause
			}
			s.problem("cameras", c.Name, c.Since, "camera-down", advice(c), "%s %s", c.Name, what)
			continue
		}
		allowed := silentFor
		if c.FPS > 0 {
			allowed = max(allowed, time.Duration(3/c.FPS*float64(time.Second)))
		}
		for _, a := range c.Answers {
			served := slices.ContainsFunc(s.Models, func(m Model) bool { return m.Name == a.Model && m.Served > 0 })
			if since := later(a.At, c.Since); served && s.At.Sub(since) > allowed {
				s.problem("cameras", c.Name, since, "camera-without-answers", "sightline ledger --camera "+c.Name+" shows where its frames end", "%s is live, and %s has not answered for %s", c.Name, a.Model, s.At.Sub(since).Round(time.Second))
			}
		}
	}
}

// advice is what helps against a cause.
func advice(c Camera) string {
	switch c.Cause {
	case "auth":
		return "correct the password in sightline.yaml, and apply"
	case "not_found":
		return "correct the path of its URL in sightline.yaml, and apply"
	case "refused", "timeout", "closed", "stalled":
		return "see that the camera has power and network; ingest goes on trying"
	case "codec", "config", "protocol", "tls":
		return "sightline events --camera " + c.Name + " --since 1h says what it sends"
	}
	switch c.State {
	case stateUnclaimed:
		return "start an ingest, or one with more capacity: sightline workers"
	case stateUnreadable:
		return "apply the configuration again with this version's sightline"
	}
	return "sightline events --camera " + c.Name + " --since 1h"
}

func (s *System) judgeWork() {
	for _, l := range s.Books.Unbalanced {
		s.problem("books", l.Camera, time.Time{}, "frames-lost", "report it with: sightline events --since 1h --json; sightline ledger --camera "+l.Camera,
			"frames lost: %d of %s for %s, and nothing explains what became of them", l.Lost, l.Camera, l.Model)
	}
	if n := s.DLQ.LastHour; n > 0 {
		s.problem("dlq", "", time.Time{}, "quarantined", "sightline dlq list --since 1h; mend the cause, then: sightline dlq replay", "%s within the last hour", count(int(min(n, 1<<31)), "message")+" quarantined")
	}
	if sh := s.Sampling; sh != nil {
		s.problem("capacity", "", sh.Since, "shedding", "start more workers of the group that sightline events --area recovery --since 1h names", "workers cannot keep up: cameras capture %s of their pictures", shares(sh.Share))
	}
	for _, q := range s.Queues {
		if q.Waiting > 0 && q.Workers == 0 {
			s.problem("capacity", q.Group, time.Time{}, "queue-not-served", "start a worker that serves it", "waiting in %[2]s for %[3]s: %[1]d, and nobody serves it", q.Waiting, q.Stream, q.Group)
		}
	}
}

func (s *System) judgeDrift() {
	if s.Drift == nil {
		return
	}
	watched := slices.ContainsFunc(s.Services, func(v Service) bool { return v.Name == "drift-monitor" && len(v.Alive) > 0 })
	if len(s.Drift.Statuses)+len(s.Drift.Integrities) > 0 && !watched {
		s.problem("drift", "drift-monitor", time.Time{}, "drift-monitor-down", "start drift-monitor", "nobody watches for drift: what is shown is old")
		return
	}
	for _, i := range s.Drift.Integrities {
		for _, f := range i.Faults {
			s.problem("drift", i.Camera, f.Since, "integrity-fault", integrityAdvice(f.Fault), "%s looks %s", i.Camera, f.Fault)
		}
	}
	for _, d := range s.Drift.Statuses {
		if d.State == drift.SuspectedLoss {
			s.problem("drift", d.Camera, d.Since, "suspected-loss", "look at its pictures; label some (FEEDBACK) to know; roll back if a rollout is recent", "%s answers worse on %s than its reference, it seems: %s", d.Model, d.Camera, d.Cause)
		}
		if !d.At.IsZero() && s.At.Sub(d.At) > staleFor && s.live(d.Camera) {
			s.problem("drift", d.Camera, d.At, "drift-monitor-down", "sightline workers, and the log of drift-monitor", "what is said of %s and %s is old", d.Camera, d.Model)
		}
	}
}

func integrityAdvice(f drift.Fault) string {
	switch f {
	case drift.Frozen, drift.Black, drift.Covered:
		return "go and look: nothing is seen there; its answers are marked degraded"
	case drift.Clock, drift.FPS:
		return "set the camera's clock and rate; times and sampling follow what arrives"
	default:
		return "go and look: mend the mounting or the lens, or capture a new reference if it is meant to be so"
	}
}

func (s *System) live(camera string) bool {
	return slices.ContainsFunc(s.Cameras, func(c Camera) bool { return c.Name == camera && c.State == stateLive })
}

// names lists some and counts the rest.
func names(all []string) string {
	if len(all) <= namesShown {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:namesShown], ", "), len(all)-namesShown)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
