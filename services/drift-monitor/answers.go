package driftmonitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/feedback"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/predictions"
	"github.com/sightline-dev/sightline/streams"
)

const (
	// nearby is how many answers an answer may have overtaken.
	nearby = 32
	// lookups bounds how many messages are looked at for one answer.
	lookups = 200
)

// errNoAnswer means that nobody remembers what was answered.
var errNoAnswer = errors.New("no such answer is stored")

// labelled is feedback with the answer that it is about.
type labelled struct {
	said   feedback.Feedback
	answer predictions.Prediction
}

func (m *monitor) readFeedback(after uint64) func(context.Context, chan<- input) {
	return func(ctx context.Context, in chan<- input) {
		m.tail(ctx, tailed{stream: streams.Feedback, subject: streams.FeedbackSubject("*"), after: after, all: true}, func(data []byte, seq uint64) bool {
			f, err := feedback.Decode(data)
			if err != nil {
				m.deps.Log.DebugContext(ctx, "feedback makes no sense", slog.Any("error", err))
				return true
			}
			answer, err := m.answer(ctx, &f)
			if errors.Is(err, errNoAnswer) {
				m.deps.Log.DebugContext(ctx, "feedback on what nobody remembers", slog.String("frame", f.Frame))
				return true
			}
			if err != nil { // the broker is away: read it again
				return false
			}
			return offer(ctx, in, input{labelled: &labelled{said: f, answer: answer}, sequence: seq})
		})
	}
}

// answer finds what was answered to a frame. Answers of one camera and model are stored about in the order of frames, so a few
// questions to the broker find one among millions.
func (m *monitor) answer(ctx context.Context, f *feedback.Feedback) (predictions.Prediction, error) {
	name, err := frame.ParseName(f.Frame)
	if err != nil {
		return predictions.Prediction{}, errNoAnswer
	}
	stream, err := m.deps.JS.Stream(ctx, streams.Predictions)
	if err != nil {
		return predictions.Prediction{}, fmt.Errorf("stream %s: %w", streams.Predictions, err)
	}
	s := search{stream: stream, subject: streams.PredictionSubject(f.Model, name.Camera), left: lookups}
	low, high := stream.CachedInfo().State.FirstSeq, stream.CachedInfo().State.LastSeq+1
	before := name
	before.Seq -= min(before.Seq-1, nearby)
	for low < high {
		middle := low + (high-low)/2
		p, at, err := s.next(ctx, middle)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			high = middle
		case err != nil:
			return p, err
		case earlier(p, before):
			low = at + 1
		default:
			high = middle
		}
	}
	for range 2*nearby + 1 {
		p, at, err := s.next(ctx, low)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return p, err
		}
		if p.Frame == f.Frame && (f.Version == "" || f.Version == p.Version) {
			return p, nil
		}
		low = at + 1
	}
	return predictions.Prediction{}, errNoAnswer
}

// search asks a stream for answers.
type search struct {
	stream  jetstream.Stream
	subject string
	left    int
}

// next is the first answer that is stored at a sequence or after it; gaps and what cannot be read are passed over.
func (s *search) next(ctx context.Context, from uint64) (p predictions.Prediction, at uint64, err error) {
	for ; s.left > 0; s.left-- {
		msg, err := s.stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(s.subject))
		if err != nil {
			return p, 0, err
		}
		if p, err := predictions.Decode(msg.Data); err == nil && p.Kind == predictions.KindPrediction {
			return p, msg.Sequence, nil
		}
		from = msg.Sequence + 1
	}
	return p, 0, jetstream.ErrMsgNotFound
}

// earlier reports whether an answer is to a frame before another.
func earlier(p predictions.Prediction, than frame.Name) bool {
	name, err := frame.ParseName(p.Frame)
	if err != nil {
		return false
	}
	return name.Epoch < than.Epoch || name.Epoch == than.Epoch && name.Seq < than.Seq
}
