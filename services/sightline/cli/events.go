package cli

import (
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

	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/services/sightline/watch"
	"github.com/sightline-dev/sightline/streams"
)

const (
	eventsBatch  = 512
	eventsWait   = 500 * time.Millisecond // of one pull: Ctrl-C is noticed that late
	eventsRetry  = 250 * time.Millisecond
	eventsForget = time.Minute // until the broker drops the consumer of a reader that was killed
	// eventsSorted is how many events are held back to put them into order: a teller that the broker was away for tells
	// what happened meanwhile afterwards, at most so many at a time.
	eventsSorted = 4096
)

type eventFlags struct {
	follow bool
	area   string
	name   string
	since  string
	from   time.Time // what since means
}

func (a *app) events() *cobra.Command {
	var f eventFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened: to cameras, workers, models and streams, and what was done about it",
		Long: `Show what EVENTS has: the last 7 days, in the order in which it happened. With --follow show what happens from now on, or from
--since on, until Ctrl-C; a broker that is started anew does not end it.

  time  area/kind  name  state  cause  detail  facts`,
		Example: `  sightline events --since 1h --area recovery
  sightline events --follow --camera street
  sightline events --json | jq 'select(.area == "dlq")'`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.since != "" {
				from, err := parseSince(f.since, time.Now())
				if err != nil {
					return exit(ExitUsage, err)
				}
				f.from = from
			}
			if f.area != "" {
				if err := streams.CheckToken(f.area); err != nil {
					return exit(ExitUsage, fmt.Errorf("--area: %w", err))
				}
			}
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			return a.runEvents(cmd.Context(), js, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "keep showing events as they are told")
	flags.StringVar(&f.area, "area", "", "only of this area: camera, worker, model, recovery, dlq, ...")
	flags.StringVar(&f.name, "name", "", "only of this camera, model or instance")
	flags.StringVar(&f.name, "camera", "", "the same as --name")
	flags.StringVar(&f.since, "since", "", "from this time on: 1h ago, or 2026-05-01T12:00:00Z")
	return cmd
}

func (a *app) runEvents(ctx context.Context, js jetstream.JetStream, f eventFlags) error {
	s, err := js.Stream(ctx, streams.Events)
	if err != nil {
		return fmt.Errorf("stream %s: %w", streams.Events, err)
	}
	t := eventTail{js: js, subject: f.subject(), since: f.from, created: s.CachedInfo().Created}
	if f.follow {
		if f.from.IsZero() {
			t.next = s.CachedInfo().State.LastSeq + 1
		}
		t.take = a.eventPrinter(f.name)
		return t.follow(ctx, func(err error) {
			_, _ = fmt.Fprintf(a.std.Err, "warning: %v: trying again\n", err)
		})
	}
	var sorted eventBuffer
	show := a.eventPrinter(f.name)
	t.take = func(e events.Event, err error) error {
		if err != nil {
			return show(e, err)
		}
		for _, e := range sorted.add(e, eventsSorted) {
			if err := show(e, nil); err != nil {
				return err
			}
		}
		return nil
	}
	if err := t.read(ctx, true); err != nil {
		return err
	}
	for _, e := range sorted {
		if err := show(e, nil); err != nil {
			return err
		}
	}
	return nil
}

// subject is where the events are told that the flags choose; who asks for a name must still compare it.
func (f eventFlags) subject() string {
	area, name := "*", "*"
	if f.area != "" {
		area = f.area
	}
	if streams.CheckToken(f.name) == nil { // a host's is told on another subject
		name = f.name
	}
	return streams.EventSubject(area, "*", name)
}

// eventPrinter writes events of a name, or of all. One that cannot be read is a warning.
func (a *app) eventPrinter(name string) func(events.Event, error) error {
	return func(e events.Event, unreadable error) error {
		switch {
		case unreadable != nil:
			_, err := fmt.Fprintln(a.std.Err, "warning: "+unreadable.Error())
			return err
		case name != "" && e.Name != name:
			return nil
		case a.json:
			return a.writeJSON(e)
		default:
			return a.printf("%s\n", eventLine(e))
		}
	}
}

// eventLine is an event for people.
func eventLine(e events.Event) string {
	line := fmt.Sprintf("%s  %-18s %-20s %-12s", e.At.Local().Format("2006-01-02 15:04:05.000"), e.Area+"/"+e.Kind, e.Name, e.State)
	parts := []string{line}
	for _, s := range []string{e.Cause, e.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(e.Facts)) {
		v := e.Facts[k]
		if v == "" || strings.ContainsAny(v, " \"=") {
			v = strconv.Quote(v)
		}
		parts = append(parts, k+"="+v)
	}
	return strings.TrimRight(watch.Printable(strings.Join(parts, " ")), " ")
}

// eventBuffer puts events into the order of time.
type eventBuffer []events.Event

// add returns what there is no room for: the oldest.
func (b *eventBuffer) add(e events.Event, room int) []events.Event {
	i, _ := slices.BinarySearchFunc(*b, e, func(x, e events.Event) int {
		if x.At.After(e.At) {
			return 1
		}
		return -1 // also when they are equal: those that were told first come first
	})
	*b = slices.Insert(*b, i, e)
	if len(*b) <= room {
		return nil
	}
	oldest := (*b)[0]
	*b = slices.Delete(*b, 0, 1)
	return []events.Event{oldest}
}

// eventTail reads EVENTS in the order in which it was told, each event once.
type eventTail struct {
	js      jetstream.JetStream
	subject string
	since   time.Time
	next    uint64    // stream sequence; decides once it is known
	created time.Time // of the stream that next is of
	take    func(events.Event, error) error
}

// stoppedError is what take returned.
type stoppedError struct{ err error }

func (e *stoppedError) Error() string { return e.err.Error() }
func (e *stoppedError) Unwrap() error { return e.err }

// follow goes on until ctx ends. It survives restarts of the broker; when the stream was made anew it begins again. warn is
// told once of whatever lasts.
func (t *eventTail) follow(ctx context.Context, warn func(error)) error {
	retry := time.NewTimer(0)
	defer retry.Stop()
	warned := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
		}
		before := t.next
		err := t.locate(ctx)
		if err == nil {
			err = t.read(ctx, false)
		}
		if stopped, ok := errors.AsType[*stoppedError](err); ok {
			return stopped.err
		}
		warned = warned && t.next == before
		if err != nil && !warned && ctx.Err() == nil {
			warn(err)
			warned = true
		}
		retry.Reset(eventsRetry)
	}
}

// locate begins again when the stream is another one.
func (t *eventTail) locate(ctx context.Context) error {
	s, err := t.js.Stream(ctx, streams.Events)
	if err != nil {
		return fmt.Errorf("stream %s: %w", streams.Events, err)
	}
	if info := s.CachedInfo(); !info.Created.Equal(t.created) || info.State.LastSeq+1 < t.next {
		t.created, t.next, t.since = info.Created, 1, time.Time{}
	}
	return nil
}

// read goes on until ctx ends, which is an error then, or until it has read what is there.
func (t *eventTail) read(ctx context.Context, whatIsThere bool) error {
	cfg := jetstream.ConsumerConfig{
		FilterSubject: t.subject, AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: eventsForget, MemoryStorage: true, Replicas: 1,
	}
	switch {
	case t.next > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, t.next
	case !t.since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &t.since
	}
	c, err := t.js.CreateConsumer(ctx, streams.Events, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", streams.Events, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = t.js.DeleteConsumer(ctx, streams.Events, c.CachedInfo().Name) // or the broker forgets it by itself
	}()
	if whatIsThere && c.CachedInfo().NumPending == 0 {
		return nil
	}
	for delivered, before := uint64(0), uint64(0); ; before = delivered {
		if ctx.Err() != nil {
			return fmt.Errorf("read %s: %w", streams.Events, context.Cause(ctx))
		}
		if whatIsThere && delivered > 0 && delivered == before { // somebody purged the rest meanwhile, or the broker is slow
			info, err := c.Info(ctx)
			if err != nil {
				return fmt.Errorf("read %s: %w", streams.Events, err)
			}
			if info.NumPending == 0 {
				return nil
			}
		}
		batch, err := c.Fetch(eventsBatch, jetstream.FetchMaxWait(eventsWait))
		if err != nil {
			return fmt.Errorf("read %s: %w", streams.Events, err)
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read %s: %w", streams.Events, err)
			}
			if delivered++; meta.Sequence.Consumer != delivered {
				return fmt.Errorf("read %s: the connection lost what comes before event %d", streams.Events, meta.Sequence.Stream)
			}
			if err := t.take(events.Decode(m.Data())); err != nil {
				return &stoppedError{err}
			}
			t.next = meta.Sequence.Stream + 1
			if whatIsThere && meta.NumPending == 0 {
				return nil
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
			return fmt.Errorf("read %s: %w", streams.Events, err)
		}
	}
}
