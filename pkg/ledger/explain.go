package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/streams"
)

// explainTail is how many frames before and after the last one that was reported are looked up when an epoch has
// ended: what a killed process did since its last report is reported by nobody.
const explainTail = 128

// question is what the books cannot explain: frames of one epoch without a fate for a model.
type question struct {
	camera, model string
	epoch         uint64
	frames        Ranges
	since         time.Time // nothing of them is older
	until         time.Time // nor younger, if not zero
	end           time.Time // see asked
}

// outage is how much later than what it tells of a record may be stored: while LEDGER cannot be written reporters keep
// what they have to say.
const outage = time.Minute

// askAgain is when an Auditor looks up again what it did not find.
const askAgain = 30 * time.Second

// asked is what was looked up in vain, or found, for a model.
type asked struct {
	frames Ranges
	at     time.Time
	end    time.Time // the last word of the epoch then, when that was over
}

// explain asks the streams that hold outcomes. A worker stores an answer before it reports it, one flush interval later
// at most; one that is killed in between leaves the answer without the report.
func (b *Books) explain(ctx context.Context, js jetstream.JetStream, now time.Time, held Held) error {
	questions := b.questions(b.at(now, held))
	answers, err := ask(ctx, js, questions)
	if err != nil {
		return err
	}
	b.learn(questions, answers, now)
	return nil
}

// askAtOnce is how many subjects one reader looks at: after the death of everything there are thousands of questions.
const askAtOnce = 64

// ask looks up the fates of frames.
func ask(ctx context.Context, js jetstream.JetStream, questions []question) ([]Record, error) {
	var out []Record
	byAge := slices.Clone(questions) // so that those that need not look far back do not
	slices.SortStableFunc(byAge, func(a, b question) int { return a.since.Compare(b.since) })
	for some := range slices.Chunk(byAge, askAtOnce) {
		for _, a := range []struct {
			stream  string
			subject func(question) string
			mark    Mark
		}{
			{streams.Predictions, func(q question) string { return streams.PredictionSubject(q.model, q.camera) }, Predicted},
			{streams.DLQ, func(q question) string { return streams.DLQSubject("*", q.camera) }, Quarantined},
		} {
			found, err := find(ctx, js, a.stream, a.subject, some)
			if err != nil {
				return nil, fmt.Errorf("explain frames: %w", err)
			}
			for i, frames := range found {
				if q := some[i]; len(frames) > 0 {
					out = append(out, Record{Camera: q.camera, Epoch: q.epoch, Entries: []Entry{{Mark: a.mark, Model: q.model, Frames: frames}}})
				}
			}
		}
	}
	return out, nil
}

// find reads the headers of some subjects and returns those of each question's frames that they have.
func find(ctx context.Context, js jetstream.JetStream, stream string, subject func(question) string, questions []question) ([]Ranges, error) {
	found := make([]Ranges, len(questions))
	about := map[epochKey][]int{}
	cfg := jetstream.ConsumerConfig{HeadersOnly: true}
	since, until := questions[0].since, questions[0].until // they are sorted
	missing := uint64(0)
	for i, q := range questions {
		k := epochKey{q.camera, q.epoch}
		about[k] = append(about[k], i)
		cfg.FilterSubjects = append(cfg.FilterSubjects, subject(q))
		if !until.IsZero() && (q.until.IsZero() || q.until.After(until)) {
			until = q.until
		}
		missing += q.frames.Count()
	}
	slices.Sort(cfg.FilterSubjects)
	cfg.FilterSubjects = slices.Compact(cfg.FilterSubjects)
	if !since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	err := streams.Scan(ctx, js, stream, cfg, false, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		name, err := frame.ParseName(header(m, frame.HeaderName))
		if err != nil { // of something else
			return meta.NumPending > 0
		}
		for _, i := range about[epochKey{name.Camera, name.Epoch}] {
			model := header(m, frame.HeaderModel)
			if stream == streams.Predictions {
				model = questionModel(m.Subject())
			}
			q := questions[i]
			if (model == "" || model == q.model) && len(q.frames.And(Ranges{{name.Seq, name.Seq}}).Minus(found[i])) > 0 {
				found[i].Add(name.Seq, name.Seq)
				missing--
			}
		}
		return meta.NumPending > 0 && missing > 0 && (until.IsZero() || !meta.Timestamp.After(until))
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	return found, nil
}

// questionModel is the model of an answer's subject: predictions.<model>.<camera>.
func questionModel(subject string) string { return strings.Split(subject, ".")[1] }

func header(m jetstream.Msg, key string) string {
	if v := m.Headers()[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// learn adds the answers to questions that were asked at a time.
func (b *Books) learn(questions []question, answers []Record, now time.Time) {
	for _, q := range questions {
		if e := b.cameras[q.camera].epochs[q.epoch]; e != nil {
			if e.asked == nil {
				e.asked = map[string]asked{}
			}
			e.asked[q.model] = asked{frames: q.frames, at: now, end: q.end}
		}
	}
	for _, r := range answers {
		if b.cameras[r.Camera].epochs[r.Epoch] == nil { // it was closed meanwhile
			continue
		}
		r.At = now
		b.Apply(r)
	}
}

func (b *Books) questions(at moment) []question {
	var out []question
	for name, c := range b.cameras {
		last := c.last()
		for id, e := range c.epochs {
			route, known := c.routeOf(id)
			if !known {
				continue
			}
			for _, model := range e.modelNames(route) {
				q := question{camera: name, model: model, epoch: id}
				if q.frames = e.unexplained(&q, c.judge(id, last, model, at), at); len(q.frames) == 0 {
					continue
				}
				since := e.clock.since(q.frames[0][0])
				if since.IsZero() { // nobody has told of it: it is newer than what was told
					since = e.clock.last()
				}
				if !since.IsZero() {
					q.since = since.Add(-at.pace.explain() - outage)
				}
				out = append(out, q)
			}
		}
	}
	return out
}

// unexplained are the frames whose fate may have been stored without being reported.
func (e *epoch) unexplained(q *question, v verdict, at moment) Ranges {
	before := e.asked[q.model]
	frames := v.lost
	if at.held != nil && v.waiting.Count() > at.held(q.camera, q.model) {
		frames.AddAll(v.waiting)
	}
	heard := e.clock.last()
	ended := !heard.IsZero() && at.now.Sub(heard) > at.pace.explain()
	fresh := ended && !before.end.Equal(heard)
	inHand := e.inHandOfTheDead()
	for _, f := range v.fates { // who died, or was cut off, may have answered before
		switch {
		case !f.concluded:
		case fresh, f.reason == reasonWorkerDied, f.reason == reasonReturned:
			frames.AddAll(f.frames)
		default: // nor did he tell of the last that he took
			frames.AddAll(f.frames.And(inHand))
		}
	}
	if at.audited && at.now.Sub(before.at) < askAgain {
		frames = frames.Minus(before.frames)
	}
	if ended {
		q.end = heard
	}
	if fresh {
		known := e.captured.Last()
		frames.Add(known+1, known+explainTail)
		q.until = heard.Add(at.pace.explain() + outage)
	}
	return frames
}
