package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/services/sightline/watch"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// leaderLease is the lease of who leads recovery: no camera has a dot in its name.
	leaderLease = servicePrefix + "recovery"
	// servicePrefix begins the leases that are no camera's.
	servicePrefix = "service."
	ingestService = "ingest"

	leasesWait = 3 * time.Second
)

func (a *app) workers() *cobra.Command {
	var watching bool
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List the processes at work: what they serve and hold, and who leads recovery",
		Long: `List every process of every service that keeps an entry in WORKERS, and those that were declared dead within the last hour.

  HELD      messages in its hands, or cameras that it captures
  RESTING   messages that it handed back, and that come back to somebody after a delay
  BUSY      share of its handlers at work, over the last second
  BEAT      age of its last beat, by its own clock: it beats five times per second, and is declared dead after one of silence`,
		Example: `  sightline workers --watch
  sightline workers --json | jq -r 'select(.state == "dead") | .instance'`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			return a.runWorkers(cmd.Context(), js, watching)
		},
	}
	cmd.Flags().BoolVarP(&watching, "watch", "w", false, "keep showing them until Ctrl-C")
	return cmd
}

// workerRow is one worker for people and programs.
type workerRow struct {
	Service  string       `json:"service"`
	Instance string       `json:"instance"`
	State    string       `json:"state"` // alive, silent, dead
	Cause    string       `json:"cause,omitempty"`
	Leads    bool         `json:"leads,omitempty"`
	Host     string       `json:"host"`
	Region   string       `json:"region,omitempty"`
	PID      int          `json:"pid"`
	Serves   []fleet.Lane `json:"serves,omitempty"`
	Capacity int          `json:"capacity"`
	Held     int          `json:"held"`
	Resting  int          `json:"resting"`
	Busy     float64      `json:"busy"` // 0 to 1
	Beat     time.Time    `json:"beat"`
	Since    time.Time    `json:"since"`
}

func (a *app) runWorkers(ctx context.Context, js jetstream.JetStream, watching bool) error {
	if _, err := js.KeyValue(ctx, streams.WorkersBucket); err != nil {
		return fmt.Errorf("bucket %s: %w", streams.WorkersBucket, err)
	}
	views, stop := context.WithCancel(ctx)
	defer stop()
	leases := lease.Follow(views, js, a.log())
	workers, err := fleet.Follow(views, js, "", a.log())
	if err != nil {
		return err
	}
	select {
	case <-leases.Filled():
	case <-time.After(leasesWait):
		return fmt.Errorf("bucket %s: no answer", streams.LeasesBucket)
	case <-ctx.Done():
		return fmt.Errorf("workers: %w", context.Cause(ctx))
	}
	every := linesEvery
	if a.interactive() {
		every = boardEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		now := time.Now()
		holders, _ := leases.All()
		rows := workerRows(workers.All(), holders, now)
		var err error
		switch {
		case !watching:
			return a.printWorkers(rows, holders[leaderLease], now)
		case a.json:
			err = a.writeJSON(struct {
				At      time.Time   `json:"at"`
				Workers []workerRow `json:"workers"`
			}{now.UTC(), rows})
		case a.interactive():
			err = errors.Join(a.printf("\x1b[H\x1b[2Jsightline workers   %s   Ctrl-C stops\n\n", now.Format(time.TimeOnly)), a.printWorkers(rows, holders[leaderLease], now))
		default:
			err = errors.Join(a.printf("%s\n", now.Format(time.TimeOnly)), a.printWorkers(rows, holders[leaderLease], now))
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done(): // Ctrl-C is how --watch ends
			return nil
		case <-tick.C:
		}
	}
}

func workerRows(workers map[string]fleet.Seen, holders map[string]lease.Holder, now time.Time) []workerRow {
	captured := map[string]int{}
	for key, h := range holders {
		if !strings.HasPrefix(key, servicePrefix) {
			captured[h.Instance]++
		}
	}
	rows := make([]workerRow, 0, len(workers))
	for _, key := range slices.SortedFunc(maps.Keys(workers), func(a, b string) int {
		x, y := workers[a], workers[b]
		return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Instance, y.Instance))
	}) {
		w := workers[key]
		row := workerRow{
			Service: w.Service, Instance: w.Instance, State: string(w.State), Host: w.Host, Region: w.Region, PID: w.PID,
			Serves: w.Lanes, Capacity: w.Capacity, Busy: w.Load.Busy, Beat: w.At, Since: w.Started,
		}
		switch {
		case w.State == fleet.Dead && w.Epitaph != nil:
			row.Cause = w.Epitaph.Cause
		case w.State == fleet.Alive && now.Sub(w.Heard) > streams.WorkerTTL:
			row.State = "silent"
		}
		for _, c := range w.Claims {
			row.Held += len(c.Held)
			row.Resting += len(c.Resting)
		}
		if w.State == fleet.Alive {
			leader, led := holders[leaderLease]
			row.Leads = led && servicePrefix+w.Service == leaderLease && leader.Instance == w.Instance
			if w.Service == ingestService {
				row.Held += captured[w.Instance]
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (a *app) printWorkers(rows []workerRow, leader lease.Holder, now time.Time) error {
	if a.json {
		for _, r := range rows {
			if err := a.writeJSON(r); err != nil {
				return err
			}
		}
		return nil
	}
	lines := [][]string{{"SERVICE", "INSTANCE", "STATE", "HOST", "REGION", "SERVES", "CAPACITY", "HELD", "RESTING", "BUSY", "BEAT", "SINCE"}}
	for _, r := range rows {
		state := r.State
		if r.Cause != "" {
			state += ": " + r.Cause
		}
		serves := make([]string, len(r.Serves))
		for i, l := range r.Serves {
			if serves[i] = l.Model + "/" + string(l.Lane); l.Version > 0 {
				serves[i] = l.Model + "@" + strconv.Itoa(l.Version) + "/" + string(l.Lane)
			}
		}
		line := []string{
			r.Service, r.Instance, state, r.Host, r.Region, strings.Join(serves, ","), strconv.Itoa(r.Capacity), strconv.Itoa(r.Held),
			strconv.Itoa(r.Resting), fmt.Sprintf("%.0f %%", 100*r.Busy), max(now.Sub(r.Beat), 0).Round(10 * time.Millisecond).String(),
			r.Since.Local().Format(time.DateTime),
		}
		for i := range line {
			line[i] = watch.Printable(line[i])
		}
		lines = append(lines, line)
	}
	if err := watch.WriteColumns(a.std.Out, 6, lines); err != nil {
		return err
	}
	if leader.Instance == "" {
		return a.printf("\nnobody leads recovery: what a process holds that dies comes back when the broker's AckWait is over\n")
	}
	return a.printf("\nrecovery is led by %s since %s\n", watch.Printable(leader.Instance), leader.Since.Local().Format(time.DateTime))
}
