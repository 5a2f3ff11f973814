package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// ErrDrainTimeout is the cause of a handler's cancelled context when draining took too long.
var ErrDrainTimeout = errors.New("drain timeout")

// ErrHung is the reason of a message whose handler ignored its time-out.
var ErrHung = errors.New("handler ignored its time-out")

// Message is one message as a handler sees it. Handlers must not change it.
type Message struct {
	Subject  string
	Header   nats.Header
	Data     []byte
	Stream   string
	Sequence uint64
	Stored   time.Time     // when its stream acknowledged it
	Attempt  int           // 1 for the first delivery
	Queued   time.Duration // from being stored until a handler saw it
}

// Output is one message to publish. ID makes a repeated publish a no-op within the stream's duplicate window; an
// output without one is refused.
type Output struct {
	Subject string
	ID      string
	Header  nats.Header
	Data    []byte
}

// Result is a handler's answer for one message.
type Result struct {
	Outputs []Output
	Err     error
}

// Handler turns a batch into one Result per message, in order. An error concerns the batch as a whole.
type Handler func(ctx context.Context, batch []Message) ([]Result, error)

// Each makes a Handler of a function for single messages.
func Each(f func(ctx context.Context, m Message) ([]Output, error)) Handler {
	return func(ctx context.Context, batch []Message) ([]Result, error) {
		out := make([]Result, len(batch))
		for i, m := range batch {
			out[i].Outputs, out[i].Err = f(ctx, m)
		}
		return out, nil
	}
}

// Observer is told what happens to messages. Its methods must not block.
type Observer interface {
	// Taken is called when a message reached this process.
	Taken(m Message)
	// Done is called when the outputs of a message are stored and its acknowledgement is on its way.
	Done(m Message, outputs []Output)
	// Dropped is called when a message ended without outputs.
	Dropped(m Message, fate ledger.Mark, reason string)
	// Returned is called when a message left this process without a fate: it was handed back, or taken away.
	Returned(m Message)
}

// Membership is this process's place in the fleet; see [fleet.Member].
type Membership interface {
	// Hold makes what h holds known to others, until release is called.
	Hold(h fleet.Holder) (release func())
	// Await returns when this process may have effects, or an error when ctx ends.
	Await(ctx context.Context) error
}

// Publisher is the part of JetStream that a stage needs.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Config is one stage. Name, Sources, Publisher and Quarantine are required.
type Config struct {
	Name      string           // of the service, a subject token
	Sources   []streams.Binder // work groups to pull from
	Publisher Publisher
	Observer  Observer
	// Member is what makes others take over when this process dies; without it the broker's AckWait does.
	Member Membership
	// Strikes is where it is noted which suspects were begun (bucket STRIKES), so that a message is not taken for a killer
	// because of what befell others. Without it deliveries alone count.
	Strikes jetstream.JetStream
	// Telemetry counts, times and traces what the stage does. Nil does not.
	Telemetry *telemetry.Telemetry
	// BatchSpan is the name of the span of a handler's work on a batch, "infer batch". Without it the handler works in the span
	// of its message.
	BatchSpan  string
	Log        *slog.Logger
	Quarantine func(Message) string // subject of the DLQ copy
	// Version is what handles messages, such as a model and its version: it is said of what is quarantined.
	Version string
	// Identity is the frame's name of a message, for ids of quarantine copies. It must not be a bare stream
	// sequence: those start again when a stream is made anew, and the copy would be taken for a double.
	Identity func(Message) string

	// Stuck is told that handlers ignore their time-out and do not return: all of them, or one for long. Nothing but the
	// end of the process gets rid of those. May be nil.
	Stuck func(error)

	Workers       int           // handlers at work at the same time; default 1
	MaxBatch      int           // messages per handler call; default 1
	MaxQueueDelay time.Duration // how long a batch waits for more messages after its first; default 0
	MaxInFlight   int           // messages in this process per source; default 4 x Workers x MaxBatch
	MaxAttempts   int           // deliveries before quarantine; default 4
	Timeout       time.Duration // of one handler call; default 10 s
	DrainTimeout  time.Duration // default 15 s
}

func (c Config) withDefaults() Config {
	c.Workers = max(c.Workers, 1)
	c.MaxBatch = max(c.MaxBatch, 1)
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 4 * c.Workers * c.MaxBatch
	}
	c.MaxInFlight = max(c.MaxInFlight, c.Workers*c.MaxBatch)
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 4
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 15 * time.Second
	}
	if c.Observer == nil {
		c.Observer = nopObserver{}
	}
	if c.Member == nil {
		c.Member = nobody{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Identity == nil {
		c.Identity = func(m Message) string { return fmt.Sprintf("%s/%d/%d", m.Stream, m.Sequence, m.Stored.UnixNano()) }
	}
	return c
}

// Stats counts what a stage did since it started.
type Stats struct {
	Taken, Done, Dropped, Retried, Quarantined uint64
	Batches                                    uint64
	BindErrors                                 uint64
	PublishErrors                              uint64 // attempts that were repeated
	Hung                                       int    // handlers that ignore their time-out right now
	Abandoned                                  uint64 // taken away because this process had been declared dead
	// Busy is how long handlers have been at work, all together.
	Busy time.Duration
}

type nopObserver struct{}

func (nopObserver) Taken(Message)                        {}
func (nopObserver) Done(Message, []Output)               {}
func (nopObserver) Dropped(Message, ledger.Mark, string) {}
func (nopObserver) Returned(Message)                     {}

// nobody is the fleet of a process that is in none.
type nobody struct{}

func (nobody) Hold(fleet.Holder) func()    { return func() {} }
func (nobody) Await(context.Context) error { return nil }
