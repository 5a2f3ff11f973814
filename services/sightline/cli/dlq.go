package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sightline-dev/sightline/pkg/dlq"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/services/sightline/watch"
	"github.com/sightline-dev/sightline/streams"
)

// listLimit is how many messages are listed unless it is said otherwise: about two screens.
const listLimit = 100

func (a *app) dlq() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Look at quarantined messages, put them back, or drop them",
		Long: `A frame that makes a stage fail, time out or die is quarantined: DLQ keeps it for 7 days, with its payload, the reason,
the attempts, the stage and the model's version. Nobody works on it again unless you replay it.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dlqList(), a.dlqShow(), a.dlqReplay(), a.dlqDrop())
	return cmd
}

// dlqFilter are the flags that choose messages.
type dlqFilter struct {
	dlq.Filter
	since string
}

func (f *dlqFilter) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Stage, "stage", "", "only what this stage quarantined: preprocess, infer")
	flags.StringVar(&f.Camera, "camera", "", "only of this camera")
	flags.StringVar(&f.since, "since", "", "only what was quarantined from this time on: 1h ago, or 2026-05-01T12:00:00Z")
}

func (f *dlqFilter) given() bool { return f.Stage != "" || f.Camera != "" || f.since != "" }

// parse checks what the flags say.
func (f *dlqFilter) parse(now time.Time) error {
	if f.since != "" {
		since, err := parseSince(f.since, now)
		if err != nil {
			return exit(ExitUsage, err)
		}
		f.Since = since
	}
	return exit(ExitUsage, f.Validate())
}

// what says it in words.
func (f *dlqFilter) what(n uint64) string {
	text := []string{strconv.FormatUint(n, 10), "messages"}
	if n == 1 {
		text[1] = "message"
	}
	for _, part := range [][]string{{"of stage", f.Stage}, {"of camera", f.Camera}, {"since", f.since}} {
		if part[1] != "" {
			text = append(text, part...)
		}
	}
	return strings.Join(text, " ")
}

func (a *app) dlqList() *cobra.Command {
	f := dlqFilter{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List quarantined messages, oldest first",
		Example: `  sightline dlq list --camera street --since 1h
  sightline dlq list --limit 0 --json | jq -r .reason | sort | uniq -c`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(time.Now()); err != nil {
				return err
			}
			ctx := cmd.Context()
			nc, js, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer nc.Close()
			entries, err := dlq.List(ctx, js, f.Filter)
			if err != nil {
				return err
			}
			if err := a.printEntries(entries); err != nil || len(entries) < f.Limit || f.Limit == 0 {
				return err
			}
			if all, _, err := dlq.Count(ctx, js, f.Filter); err == nil && all > uint64(len(entries)) {
				_, _ = fmt.Fprintf(a.std.Err, "the newest %d of %s: --limit 0 lists all\n", len(entries), f.what(all))
			}
			return nil
		},
	}
	f.flags(cmd)
	cmd.Flags().IntVarP(&f.Limit, "limit", "n", listLimit, "at most this many, the newest; 0 is no limit")
	return cmd
}

func (a *app) printEntries(entries []dlq.Entry) error {
	if a.json {
		for _, e := range entries {
			if err := a.writeJSON(e); err != nil {
				return err
			}
		}
		return nil
	}
	lines := [][]string{{"SEQ", "QUARANTINED", "STAGE", "CAMERA", "FRAME", "MODEL", "ATTEMPTS", "BYTES", "REASON"}}
	for _, e := range entries {
		bytes := strconv.Itoa(e.Bytes)
		if e.OmittedBytes > 0 {
			bytes = "omitted"
		}
		line := []string{
			strconv.FormatUint(e.Sequence, 10), e.At.Local().Format(time.DateTime), e.Stage, e.Camera, e.Frame, e.Model,
			strconv.Itoa(e.Attempts), bytes, e.Reason,
		}
		for i := range line {
			line[i] = watch.Printable(line[i])
		}
		lines = append(lines, line)
	}
	return watch.WriteColumns(a.std.Out, len(lines[0]), lines)
}

func (a *app) dlqShow() *cobra.Command {
	var payload string
	cmd := &cobra.Command{
		Use:   "show SEQ",
		Short: "Show one quarantined message: reason, headers and, in a file, its payload",
		Example: `  sightline dlq show 17 --payload frame.jpg
  sightline dlq show 17 --payload - | file -`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			seqs, err := sequences(args)
			if err != nil {
				return err
			}
			if payload == "-" && a.interactive() {
				return exit(ExitUsage, errors.New("a payload is binary, and this is a terminal: name a file, or pipe it"))
			}
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			e, err := dlq.Get(cmd.Context(), js, seqs[0])
			if err != nil {
				return err
			}
			if payload != "" && e.OmittedBytes > 0 {
				return fmt.Errorf("message %d: its payload of %d bytes did not fit into DLQ", e.Sequence, e.OmittedBytes)
			}
			switch payload {
			case "":
			case "-":
				_, err := a.std.Out.Write(e.Data)
				return err
			default:
				if err := os.WriteFile(payload, e.Data, 0o600); err != nil { // it may show people
					return fmt.Errorf("payload: %w", err)
				}
			}
			return a.printEntry(e)
		},
	}
	cmd.Flags().StringVar(&payload, "payload", "", "write the payload to this file; - writes nothing but the payload, to the output")
	return cmd
}

func (a *app) printEntry(e dlq.Entry) error {
	if a.json {
		return a.writeJSON(struct {
			dlq.Entry
			Headers map[string][]string `json:"headers"`
		}{e, e.Header})
	}
	size := strconv.Itoa(e.Bytes) + " bytes"
	if e.OmittedBytes > 0 {
		size = fmt.Sprintf("omitted: %d bytes did not fit into DLQ", e.OmittedBytes)
	}
	replayed := "no"
	if e.Replayed {
		replayed = "yes: it was quarantined again"
	}
	lines := [][]string{
		{"sequence", strconv.FormatUint(e.Sequence, 10)},
		{"quarantined", e.At.Local().Format(time.DateTime)},
		{"stage", e.Stage},
		{"camera", e.Camera},
		{"frame", e.Frame},
		{"model", e.Model},
		{"version", e.Version},
		{"reason", e.Reason},
		{"attempts", strconv.Itoa(e.Attempts)},
		{"subject", e.Subject},
		{"payload", size},
		{"replayed", replayed},
	}
	for _, k := range slices.Sorted(maps.Keys(e.Header)) {
		for _, v := range e.Header[k] {
			lines = append(lines, []string{k, v})
		}
	}
	for _, l := range lines {
		l[0], l[1] = watch.Printable(l[0]), watch.Printable(l[1])
	}
	return watch.WriteColumns(a.std.Out, 2, lines)
}

// dlqDeed is what can be done with messages.
type dlqDeed struct {
	verb, past string
	one        func(context.Context, jetstream.JetStream, uint64) (dlq.Entry, error)
	all        func(context.Context, jetstream.JetStream, dlq.Filter, func(dlq.Entry)) (dlq.Sweep, error)
}

func (a *app) dlqReplay() *cobra.Command {
	return a.dlqDo(dlqDeed{"replay", "replayed", dlq.Replay, dlq.ReplayAll}, &cobra.Command{
		Short: "Put quarantined messages back to work, and delete them from DLQ",
		Long: `Put quarantined messages back to the stage that refused them, and delete them from DLQ once its queue has taken them. They
are answered however old they are. What is refused again is quarantined again, under another sequence.

With --all a queue that is full is waited for, up to 10 seconds for each message; what cannot be replayed because its payload
did not fit into DLQ stays; any other error ends it. Messages that have not been replayed by then stay in DLQ.`,
		Example: `  sightline dlq replay 17 18
  sightline dlq replay --all --camera street --since 1h`,
	})
}

func (a *app) dlqDrop() *cobra.Command {
	return a.dlqDo(dlqDeed{"drop", "dropped", dlq.Drop, dlq.DropAll}, &cobra.Command{
		Short: "Delete quarantined messages for good",
		Long:  `Delete quarantined messages for good. The books go on showing their frames as quarantined.`,
		Example: `  sightline dlq drop 17
  sightline dlq drop --all --stage preprocess --yes`,
	})
}

func (a *app) dlqDo(d dlqDeed, cmd *cobra.Command) *cobra.Command {
	f := dlqFilter{}
	var all, yes bool
	cmd.Use = d.verb + " SEQ... | --all"
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case all && len(args) > 0:
			return exit(ExitUsage, errors.New("name messages, or --all of a filter: not both"))
		case !all && len(args) == 0:
			return exit(ExitUsage, errors.New("name messages by their sequence (`sightline dlq list` shows it), or say --all"))
		case !all && f.given():
			return exit(ExitUsage, errors.New("--stage, --camera and --since choose among --all"))
		case all && !yes && !a.asks():
			return exit(ExitUsage, errors.New("--all without a terminal to ask at needs --yes"))
		}
		seqs, err := sequences(args)
		if err == nil {
			err = f.parse(time.Now())
		}
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		nc, js, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer nc.Close()
		tell, told := a.tellEvents(ctx, js)
		defer told()
		done := func(e dlq.Entry) { tell(dlqEvent(d.past, e)) }
		if all {
			return a.dlqAll(ctx, js, d, f, yes, done)
		}
		var problems []error
		for _, seq := range seqs {
			e, err := d.one(ctx, js, seq)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			done(e)
			if err := a.printDeed(d.past, e); err != nil {
				return err
			}
		}
		return errors.Join(problems...)
	}
	f.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, d.verb+" everything that the filter chooses")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "with --all: do not ask")
	return cmd
}

func (a *app) dlqAll(ctx context.Context, js jetstream.JetStream, d dlqDeed, f dlqFilter, yes bool, done func(dlq.Entry)) error {
	n, last, err := dlq.Count(ctx, js, f.Filter)
	if err != nil {
		return err
	}
	f.Through = last // what arrives from now on was not agreed to
	if !yes && n > 0 {
		agreed, err := a.confirm(ctx, d.verb+" "+f.what(n)+"?")
		if err != nil {
			return err
		}
		if !agreed {
			return errors.New("nothing was " + d.past)
		}
	}
	var swept dlq.Sweep
	if n > 0 {
		swept, err = d.all(ctx, js, f.Filter, done)
	}
	if a.json {
		err = errors.Join(a.writeJSON(struct {
			Action string `json:"action"`
			dlq.Sweep
		}{d.past, swept}), err)
	} else {
		err = errors.Join(a.printf("%s %s\n", d.past, f.what(swept.Done)), err)
	}
	if err == nil && swept.Left > 0 {
		err = fmt.Errorf("%d messages stay: they cannot be replayed, their payload did not fit into DLQ or where they came from is not known", swept.Left)
	}
	return err
}

func (a *app) printDeed(past string, e dlq.Entry) error {
	if a.json {
		return a.writeJSON(struct {
			Action string `json:"action"`
			dlq.Entry
		}{past, e})
	}
	return a.printf("%s %d: %s (%s)\n", past, e.Sequence, watch.Printable(e.Frame), watch.Printable(e.Reason))
}

func dlqEvent(kind string, e dlq.Entry) events.Event {
	facts := map[string]string{"sequence": strconv.FormatUint(e.Sequence, 10), "frame": e.Frame, "stage": e.Stage}
	if e.Model != "" {
		facts["model"] = e.Model
	}
	return events.Event{Area: "dlq", Kind: kind, Name: e.Camera, Facts: facts}
}

// eventsAtOnce is how many events a publisher gets before it has to publish them all: it drops what it has no room for.
const eventsAtOnce = 512

// tellEvents tells EVENTS what an operator does. told returns when everything is told, and warns when something is not.
func (a *app) tellEvents(ctx context.Context, js jetstream.JetStream) (tell func(events.Event), told func()) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	ctx = context.WithoutCancel(ctx) // what is done is told
	var p *events.Publisher
	var flush func() error
	n := 0
	told = func() {
		if p == nil {
			return
		}
		err := flush()
		if d := p.Dropped(); err == nil && d > 0 {
			err = fmt.Errorf("%d were dropped", d)
		}
		if err != nil {
			_, _ = fmt.Fprintf(a.std.Err, "warning: %s does not know of everything that was done: %v\n", streams.Events, err)
		}
		p, n = nil, 0
	}
	tell = func(e events.Event) {
		if n == eventsAtOnce {
			told()
		}
		if p == nil {
			p = events.NewPublisher(js, "sightline-cli@"+host)
			flush = runUntilCalled(ctx, p.Run)
		}
		p.Tell(e)
		n++
	}
	return tell, told
}

// runUntilCalled runs something that ends with its context. What it returns ends it and waits for it.
func runUntilCalled(ctx context.Context, run func(context.Context) error) (end func() error) {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return func() error {
		stop()
		return <-ended
	}
}

// sequences reads the names of messages.
func sequences(args []string) ([]uint64, error) {
	out := make([]uint64, len(args))
	for i, s := range args {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n == 0 {
			return nil, exit(ExitUsage, fmt.Errorf("%q is not the sequence of a message: `sightline dlq list` shows them", s))
		}
		out[i] = n
	}
	return out, nil
}

// asks says whether there is somebody to ask.
func (a *app) asks() bool {
	f, ok := a.std.In.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks a question; anything but yes is no. Its reader goes on waiting for a line when ctx ends, which is when the
// process ends.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	if _, err := fmt.Fprint(a.std.Err, question+" [y/N] "); err != nil {
		return false, err
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.std.In).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case s := <-answer:
		return s == "y" || s == "yes", nil
	case <-ctx.Done():
		return false, fmt.Errorf("not answered: %w", context.Cause(ctx))
	}
}
