package predictions

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/streams"
)

// Errors that end a sequence.
var (
	ErrFilter         = errors.New("bad filter")
	ErrDurableDiffers = errors.New("a durable of this name exists with another filter")
)

// Filter chooses messages. A field that is "" chooses all.
type Filter struct {
	Model  string
	Camera string
}

func (f Filter) subject() (string, error) {
	tokens := [2]string{f.Model, f.Camera}
	for i, t := range tokens {
		if t == "" {
			tokens[i] = "*"
		} else if err := streams.CheckToken(t); err != nil {
			return "", fmt.Errorf("%w: %w", ErrFilter, err)
		}
	}
	return streams.PredictionSubject(tokens[0], tokens[1]), nil
}

// Message is a prediction or gap and its envelope.
type Message struct {
	Prediction

	Subject string
	// ID is the same for every copy of a message, wherever and however often it was stored.
	ID string
	// Seq is the position in the stream: it grows by at least one with every message. SubscribeAfter takes it.
	Seq uint64
	// Time is when the broker stored the message.
	Time time.Time
	// Traceparent is the W3C trace context of the frame, "" when it was not sampled.
	Traceparent string
}

// MalformedError concerns one message that is not what the schema says. The sequence continues after it.
type MalformedError struct {
	Subject string
	Seq     uint64
	Err     error
}

// Error implements error.
func (e *MalformedError) Error() string {
	return fmt.Sprintf("malformed message %d on %s: %v", e.Seq, e.Subject, e.Err)
}

// Unwrap returns what is wrong with the message.
func (e *MalformedError) Unwrap() error { return e.Err }

// MissedError says that the stream no longer has messages that should have come next: they grew too old, fell
// victim to the stream's size limit, or the stream was created anew. Whether any of them matched the filter is not
// known.
type MissedError struct {
	First, Last uint64 // stream sequences
	Recreated   bool   // the stream's numbers started again from 1
}

// Error implements error.
func (e *MissedError) Error() string {
	if e.Recreated {
		return fmt.Sprintf("messages from %d on may be missed: the stream was created anew", e.First)
	}
	return fmt.Sprintf("messages %d to %d may be missed: the stream no longer has them", e.First, e.Last)
}

// Client reads predictions over one connection. It holds nothing that must be closed.
type Client struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// apiTimeout bounds one request to the broker.
const apiTimeout = 5 * time.Second

// Open returns a Client on nc, which stays the caller's to close. Connect with nats.MaxReconnects(-1) unless the
// application wants to end when the broker is away for long.
func Open(nc *nats.Conn) (*Client, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("predictions: %w", err)
	}
	return &Client{nc: nc, js: js}, nil
}

// open takes a message out of its envelope. Its error is a *MalformedError; the envelope is valid all the same.
func open(msg jetstream.Msg, meta *jetstream.MsgMetadata) (Message, error) {
	h := msg.Headers()
	m := Message{
		Subject: msg.Subject(), ID: h.Get(jetstream.MsgIDHeader), Seq: meta.Sequence.Stream, Time: meta.Timestamp,
		Traceparent: h.Get("Traceparent"),
	}
	if m.Traceparent == "" {
		m.Traceparent = h.Get("traceparent") // as other languages' propagators write it
	}
	p, err := Decode(msg.Data())
	if want := streams.PredictionSubject(p.Model, p.Camera); err == nil && want != m.Subject {
		err = fmt.Errorf("prediction %s: belongs on %s", p.Frame, want)
	}
	if err != nil {
		return m, &MalformedError{Subject: m.Subject, Seq: m.Seq, Err: err}
	}
	m.Prediction = p
	if m.ID == "" {
		m.ID = p.ID()
	}
	return m, nil
}
