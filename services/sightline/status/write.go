package status

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/services/sightline/watch"
)

// Write writes a system for people, with times in a location.
func (s System) Write(out io.Writer, in *time.Location) error {
	verdict := "healthy"
	switch n := len(s.Problems); {
	case n == 1:
		verdict = "needs attention: 1 problem"
	case n > 1:
		verdict = fmt.Sprintf("needs attention: %d problems", n)
	}
	lines := [][]string{
		{"SIGHTLINE", verdict + ", " + s.At.In(in).Format(time.DateTime)},
		{"BROKER", s.broker()},
		{"SERVICES", s.services()},
		{"MODELS", s.models()},
		{"CAMERAS", s.cameras()},
		{"BOOKS", s.books()},
		{"DLQ", s.dlq()},
		{"QUEUES", s.queues()},
		{"SAMPLING", s.sampling()},
		{"DRIFT", s.drift()},
	}
	if len(s.Conditions) > 0 {
		lines = append(lines, []string{"DEGRADED", s.degraded()})
	}
	for i := range lines {
		lines[i][1] = watch.Printable(lines[i][1])
	}
	if err := watch.WriteColumns(out, 2, lines); err != nil || len(s.Problems) == 0 {
		return err
	}
	for _, p := range s.Problems {
		since := ""
		if !p.Since.IsZero() {
			since = ", since " + p.Since.In(in).Format(time.DateTime)
		}
		if _, err := fmt.Fprintf(out, "\n! %s: %s%s\n  -> %s\n     docs/runbooks.md#%s\n", p.Area, watch.Printable(p.What), since, p.Do, p.Page); err != nil {
			return err
		}
	}
	return nil
}

func (s System) broker() string {
	n, away := len(s.Broker.Nodes), 0
	for _, node := range s.Broker.Nodes {
		if node.Offline {
			away++
		}
	}
	text := count(n, "node")
	if away > 0 {
		text += fmt.Sprintf(" (%d away)", away)
	}
	led := 0
	for _, st := range s.Broker.Streams {
		if st.Leader != "" {
			led++
		}
	}
	return fmt.Sprintf("%s, %d of %d streams and buckets with a leader, %s", text, led, len(s.Broker.Streams)+len(s.Broker.Missing), size(s.Broker.Bytes))
}

func (s System) services() string {
	parts := make([]string, 0, len(s.Services))
	for _, v := range s.Services {
		p := v.Name + " " + strconv.Itoa(len(v.Alive))
		var more []string
		if v.Leader != "" {
			more = append(more, "led by "+v.Leader)
		}
		if n := len(v.Dead); n > 0 {
			more = append(more, strconv.Itoa(n)+" died within the hour")
		}
		if len(more) > 0 {
			p += " (" + strings.Join(more, ", ") + ")"
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, ", ")
}

func (s System) models() string {
	if len(s.Models) == 0 {
		return "none declared"
	}
	parts := make([]string, 0, len(s.Models))
	for _, m := range s.Models {
		parts = append(parts, fmt.Sprintf("%s@%d served by %d", m.Name, m.Version, m.Served))
	}
	return strings.Join(parts, ", ")
}

func (s System) cameras() string {
	states := map[string]int{}
	var oldest time.Duration
	var ages []float64
	for _, c := range s.Cameras {
		states[c.State]++
		if c.State != stateLive {
			continue
		}
		for _, a := range c.Answers {
			if !a.At.IsZero() {
				oldest = max(oldest, s.At.Sub(a.At))
			}
			if a.AgeMS > 0 {
				ages = append(ages, a.AgeMS)
			}
		}
	}
	if len(states) == 0 {
		return "none declared"
	}
	names := slices.Sorted(maps.Keys(states))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(boolInt(b == stateLive), boolInt(a == stateLive)) })
	parts := make([]string, 0, len(names)+2)
	for _, name := range names {
		parts = append(parts, strconv.Itoa(states[name])+" "+name)
	}
	text := strings.Join(parts, ", ")
	if len(ages) > 0 {
		slices.Sort(ages)
		text += fmt.Sprintf("; newest answers %.0f ms after capture (median), %.0f ms at most; the oldest of them %s ago", ages[len(ages)/2], ages[len(ages)-1], oldest.Round(100*time.Millisecond))
	}
	return text
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s System) books() string {
	b := s.Books
	return fmt.Sprintf("captured %d = predicted %d + superseded %d + expired %d + quarantined %d + in flight %d + lost %d",
		b.Captured, b.Predicted, b.Superseded, b.Expired, b.Quarantined, b.InFlight, b.Lost)
}

func (s System) dlq() string {
	if s.DLQ.Messages == 0 {
		return "empty"
	}
	return fmt.Sprintf("%s, %d within the last hour", count(int(min(s.DLQ.Messages, 1<<62)), "message"), s.DLQ.LastHour)
}

func (s System) queues() string {
	var waiting uint64
	var hand int
	for _, q := range s.Queues {
		waiting, hand = waiting+q.Waiting, hand+q.InHand
	}
	return fmt.Sprintf("%d waiting, %d in the hands of workers", waiting, hand)
}

func (s System) sampling() string {
	if s.Sampling == nil {
		return "every camera at its full rate"
	}
	return "lowered: " + shares(s.Sampling.Share)
}

// shares are the shares of the priorities.
func shares(sh sampling.Shares) string {
	parts := make([]string, 0, len(sh))
	for _, p := range slices.Sorted(maps.Keys(sh)) {
		if sh[p] < 1 {
			parts = append(parts, fmt.Sprintf("%.0f %% (priority %d)", 100*sh[p], p))
		}
	}
	return strings.Join(parts, ", ")
}

func (s System) drift() string {
	if s.Drift == nil {
		return "not watched"
	}
	if len(s.Drift.Statuses)+len(s.Drift.Integrities) == 0 {
		return "nothing is known yet"
	}
	states, faults := map[drift.State]int{}, 0
	var drifting []string
	for _, d := range s.Drift.Statuses {
		states[d.State]++
		if d.State == drift.DataDrift || d.State == drift.SuspectedLoss {
			drifting = append(drifting, d.Camera+"/"+d.Model+": "+d.Cause)
		}
	}
	for _, i := range s.Drift.Integrities {
		faults += len(i.Faults)
	}
	parts := make([]string, 0, len(states))
	for _, st := range drift.States() {
		if states[st] > 0 || st == drift.OK {
			parts = append(parts, strconv.Itoa(states[st])+" "+string(st))
		}
	}
	text := strings.Join(parts, ", ")
	if len(drifting) > 0 {
		text += " (" + names(drifting) + ")"
	}
	return text + "; " + count(faults, "camera fault")
}

func (s System) degraded() string {
	parts := make([]string, 0, len(s.Conditions))
	for _, camera := range slices.Sorted(maps.Keys(s.Conditions)) {
		c := s.Conditions[camera]
		why := slices.Clone(c.Reasons)
		for _, m := range slices.Sorted(maps.Keys(c.Models)) {
			why = append(why, m+": "+strings.Join(c.Models[m], ", "))
		}
		parts = append(parts, camera+" ("+strings.Join(why, ", ")+")")
	}
	return names(parts)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func size(n uint64) string {
	const mib = 1 << 20
	if n < 1024*mib {
		return strconv.FormatUint((n+mib/2)/mib, 10) + " MiB"
	}
	return strconv.FormatFloat(float64(n)/(1024*mib), 'f', 1, 64) + " GiB"
}
