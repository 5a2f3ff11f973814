package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/clock"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/streams"
)

// Headers of a quarantined message, beside its own.
const (
	HeaderReason   = "Sightline-Quarantine-Reason"
	HeaderStage    = "Sightline-Quarantine-Stage"
	HeaderAttempts = "Sightline-Quarantine-Attempts"
	HeaderSubject  = "Sightline-Quarantine-Subject"
	// HeaderVersion is what handled the message, such as a model and its version.
	HeaderVersion = "Sightline-Quarantine-Version"
	// HeaderOmitted is the size of a payload that does not fit into DLQ beside these headers.
	HeaderOmitted = "Sightline-Quarantine-Omitted-Bytes"
	// HeaderReplay is on a message that came back from DLQ (pkg/dlq). When it is quarantined again, that is another copy:
	// under the id of the first one DLQ would swallow it.
	HeaderReplay = "Sightline-Replay"
)

const (
	publishTimeout = 5 * time.Second
	publishRetry   = 10 * time.Millisecond // first pause while an output stream is full or away
	publishRetryTo = 500 * time.Millisecond

	ackTimeout = 5 * time.Second // in all
	ackTry     = 1500 * time.Millisecond

	maxReason = 512 // bytes of an error that travel in a header

	// maxHangs is the attempt after which a message that hung is quarantined: each costs a worker, and takes long.
	maxHangs = 2

	roomAfter    = 200 * time.Millisecond
	maxUnsettled = 64 << 20 // bytes of live messages beyond MaxInFlight whose answers wait to be stored
)

// settle gives a message its fate. It has no effects while this process may have been declared dead, and none for a
// message that was taken away.
func (s *Stage) settle(ctx context.Context, it *item, r Result) {
	if s.cfg.Member.Await(ctx) == nil && it.gone() {
		return
	}
	defer s.makeRoom(it)()
	err := r.Err
	if err == nil {
		began := time.Now()
		if err = s.publish(ctx, it, r.Outputs); err == nil {
			s.done.Add(1)
			s.measure.done(it, time.Since(began))
			s.pressure.forget(it.msg)
			s.cfg.Observer.Done(it.msg, r.Outputs)
			s.ack(ctx, it)
			return
		}
	}
	if errors.Is(err, errTaken) {
		return
	}
	if errors.Is(err, errSubjectFull) {
		s.nak(it, s.pressure.handBack(it.msg, it.delivered))
		return
	}
	drop, dropped := errors.AsType[*dropError](err)
	_, poison := errors.AsType[*poisonError](err)
	switch {
	case dropped:
		s.dropped.Add(1)
		s.measure.drop(it, drop.fate, drop.reason)
		s.pressure.forget(it.msg)
		s.cfg.Observer.Dropped(it.msg, drop.fate, drop.reason)
		s.ack(ctx, it)
	case ctx.Err() != nil: // draining took too long: hand it back at once
		s.handBack(it)
	case poison || s.exhausted(it) || errors.Is(err, ErrHung) && it.msg.Attempt >= maxHangs:
		s.quarantine(ctx, it, err)
	default:
		s.measure.failed(it, err)
		s.nak(it, retryDelay(err, it.msg.Attempt))
	}
}

// makeRoom lets the next live message in while the answer to this one cannot be stored, say because the broker elects a
// leader: subscribers that listen as answers are published go on seeing fresh ones. The function that it returns ends that.
func (s *Stage) makeRoom(it *item) func() {
	if streams.DeliveryOf(it.msg.Subject) != streams.Freshest {
		return func() {}
	}
	size := int64(len(it.msg.Data))
	var counted atomic.Bool
	late := time.AfterFunc(roomAfter, func() {
		if s.unsettled.Add(size) > maxUnsettled {
			s.unsettled.Add(-size)
			return
		}
		counted.Store(true)
		it.release()
	})
	return func() {
		if !late.Stop() && counted.Load() {
			s.unsettled.Add(-size)
		}
	}
}

// publish stores the outputs in order.
func (s *Stage) publish(ctx context.Context, it *item, outputs []Output) error {
	for _, o := range outputs {
		if o.ID == "" {
			return Poison(fmt.Errorf("output for %s of %s has no id", o.Subject, it.msg.Subject))
		}
		h := make(nats.Header, len(o.Header)+1) // the handler may use its header for more than one output
		maps.Copy(h, o.Header)
		h[jetstream.MsgIDHeader] = []string{o.ID}
		send := s.measure.send(ctx, it, o, h)
		err := s.store(ctx, it, &nats.Msg{Subject: o.Subject, Header: h, Data: o.Data})
		send(err)
		if err != nil {
			return err
		}
	}
	return nil
}

// errTaken means that a message was taken away while its answer could not be stored.
var errTaken = errors.New("taken away")

// store publishes one message. While its stream is full or cannot be reached it waits and tries again: the id makes that
// harmless, but not for ever. So whoever may have been declared dead meanwhile asks first.
func (s *Stage) store(ctx context.Context, it *item, msg *nats.Msg) error {
	for wait := publishRetry; ; wait = min(2*wait, publishRetryTo) {
		attempt, cancel := context.WithTimeout(ctx, publishTimeout)
		ack, err := s.cfg.Publisher.PublishMsg(attempt, msg)
		cancel()
		switch {
		case err == nil:
			if ack != nil && ack.Duplicate {
				s.measure.duplicates.Inc()
			}
			return nil
		case subjectFull(err):
			return fmt.Errorf("publish %s: %w", msg.Subject, errSubjectFull)
		case streams.Hopeless(err):
			return Poison(fmt.Errorf("publish %s: %d bytes: %w", msg.Subject, len(msg.Data), err))
		}
		s.measure.publishErrors.Inc()
		if s.publishErrors.Add(1)%20 == 1 {
			s.cfg.Log.WarnContext(ctx, "cannot publish, trying again", slog.String("stage", s.cfg.Name), slog.String("subject", msg.Subject), slog.Any("error", err))
		}
		if !clock.Pause(ctx, wait) {
			return fmt.Errorf("publish %s: %w", msg.Subject, err)
		}
		if s.cfg.Member.Await(ctx) == nil && it.gone() {
			return fmt.Errorf("publish %s: %w", msg.Subject, errTaken)
		}
	}
}

func (s *Stage) quarantine(ctx context.Context, it *item, reason error) {
	s.measure.condemn(ctx, it, reason)
	h := make(nats.Header, len(it.msg.Header)+5)
	maps.Copy(h, it.msg.Header)
	h[HeaderReason] = []string{short(reason.Error())}
	h[HeaderStage] = []string{s.cfg.Name}
	h[HeaderAttempts] = []string{strconv.Itoa(it.msg.Attempt)}
	h[HeaderSubject] = []string{it.msg.Subject}
	if s.cfg.Version != "" {
		h[HeaderVersion] = []string{s.cfg.Version}
	}
	copied := Output{
		Subject: s.cfg.Quarantine(it.msg), Header: h, Data: it.msg.Data,
		ID: s.cfg.Name + "/" + it.msg.Subject + "/" + s.cfg.Identity(it.msg),
	}
	if v := it.msg.Header[HeaderReplay]; len(v) > 0 {
		copied.ID += "/" + v[0]
	}
	err := s.publish(ctx, it, []Output{copied})
	if _, tooBig := errors.AsType[*poisonError](err); tooBig {
		h[HeaderOmitted] = []string{strconv.Itoa(len(copied.Data))}
		copied.Data = nil
		err = s.publish(ctx, it, []Output{copied})
	}
	if err != nil {
		s.nak(it, backoff(it.msg.Attempt))
		return
	}
	s.quarantined.Add(1)
	s.measure.drop(it, ledger.Quarantined, reasonHandler)
	s.cfg.Observer.Dropped(it.msg, ledger.Quarantined, s.cfg.Name)
	s.finish(it, func(m jetstream.Msg) error { return m.TermWithReason("quarantined") }) // a redelivery is quarantined again, under the same id
}

// short makes an error fit into a header line.
func short(reason string) string {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	return strings.ToValidUTF8(reason, "")
}

// ack is a double ack: when it fails the message comes back, and its outputs' ids make that a no-op. A broker that
// restarts remembers a message of a file stream, so it is worth asking again.
func (s *Stage) ack(ctx context.Context, it *item) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	s.finish(it, func(m jetstream.Msg) error {
		for wait := publishRetry; ; wait = min(2*wait, publishRetryTo) {
			try, cancel := context.WithTimeout(ctx, ackTry)
			err := m.DoubleAck(try)
			cancel()
			if err == nil || !clock.Pause(ctx, wait) {
				return err
			}
		}
	})
}

func (s *Stage) nak(it *item, delay time.Duration) {
	if delay > 0 {
		s.held.restUntil(it, time.Now().Add(delay))
	}
	if s.finish(it, func(m jetstream.Msg) error {
		if delay <= 0 {
			return m.Nak()
		}
		return m.NakWithDelay(delay)
	}) {
		s.retried.Add(1)
		s.measure.returned(it, telemetry.OutcomeRetried)
		s.cfg.Observer.Returned(it.msg)
	}
}

// Claims are the messages that this stage has.
func (s *Stage) Claims() []fleet.Claim { return s.held.claims(time.Now()) }

// Abandon lets go of every message without a word to the broker: they were given to others.
func (s *Stage) Abandon() {
	for _, it := range s.held.all() {
		if s.finish(it, func(jetstream.Msg) error { return nil }) {
			s.abandoned.Add(1)
			s.measure.returned(it, telemetry.OutcomeAbandoned)
			s.cfg.Observer.Returned(it.msg)
		}
	}
}

func (s *Stage) handBack(it *item) { s.nak(it, 0) }

// finish runs the final acknowledgement, unless somebody else has, and gives the message's place back. An
// acknowledgement that fails is not repeated: AckWait is the backstop.
func (s *Stage) finish(it *item, ack func(jetstream.Msg) error) bool {
	if !it.claim() {
		return false
	}
	_ = ack(it.raw)
	if it.settled != nil {
		close(it.settled)
	}
	s.held.remove(it)
	it.release()
	return true
}
