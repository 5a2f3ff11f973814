package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Pair is a live stream and the twin that takes its place.
type Pair struct{ Live, Twin string }

// Pairs are all live streams and their twins.
func Pairs() []Pair { return []Pair{{FramesLive, FramesTwin}, {TensorsLive, TensorsTwin}} }

// EnsureStream creates one declared stream, or the bucket that it holds, if it is missing.
func EnsureStream(ctx context.Context, js jetstream.JetStream, name string, o Options) error {
	if bucket, ok := BucketOf(name); ok {
		return EnsureBucket(ctx, js, bucket, o)
	}
	cfg, ok := Declared(o)[name]
	if !ok {
		return fmt.Errorf("declare stream %s: it is not declared", name)
	}
	if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("declare stream %s: %w", name, err)
	}
	return nil
}

// MendStream brings a stream, which has the configuration have, back to its declaration, as far as an update can. The
// fields in keep stay as they are.
func MendStream(ctx context.Context, js jetstream.JetStream, have jetstream.StreamConfig, o Options, keep ...string) error {
	want, ok := Declared(o)[have.Name]
	if !ok {
		return fmt.Errorf("mend stream %s: it is not declared", have.Name)
	}
	if _, err := js.UpdateStream(ctx, mendable(want, have, keep)); err != nil {
		return fmt.Errorf("mend stream %s: %w", have.Name, err)
	}
	return nil
}

// Overfull are the limits, by field, that a stream on disk holds more than, so that to bring them back to their declaration
// would delete messages: somebody, or a newer version, had allowed more. Live streams are rings, and buckets have entries that
// shall expire: they are not asked.
func Overfull(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, info *jetstream.StreamInfo) ([]string, error) {
	if _, bucket := BucketOf(want.Name); bucket || want.Storage != jetstream.FileStorage || info.State.Msgs == 0 {
		return nil, nil
	}
	have, state := info.Config, info.State
	lowered := func(want, have int64) bool { return want > 0 && (have <= 0 || have > want) }
	over := func(want int64, holds uint64) bool { return holds > uint64(want) } //nolint:gosec // more than 0
	var out []string
	if lowered(want.MaxMsgs, have.MaxMsgs) && over(want.MaxMsgs, state.Msgs) {
		out = append(out, "max_msgs")
	}
	if lowered(want.MaxBytes, have.MaxBytes) && over(want.MaxBytes, state.Bytes) {
		out = append(out, "max_bytes")
	}
	if lowered(int64(want.MaxAge), int64(have.MaxAge)) && time.Since(state.FirstTime) > want.MaxAge {
		out = append(out, "max_age")
	}
	if each := want.MaxMsgsPerSubject; lowered(each, have.MaxMsgsPerSubject) && over(each, state.Msgs) {
		s, err := js.Stream(ctx, want.Name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		now, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			return nil, fmt.Errorf("subjects of stream %s: %w", want.Name, err)
		}
		for _, n := range now.State.Subjects {
			if over(each, n) {
				return append(out, "max_msgs_per_subject"), nil
			}
		}
	}
	return out, nil
}

// MendGroup creates a work group's consumer if it is missing, or brings it back to its declaration.
func MendGroup(ctx context.Context, js jetstream.JetStream, g WorkGroup) error {
	c, err := js.CreateOrUpdateConsumer(ctx, g.Stream, g.Config)
	if err != nil {
		return fmt.Errorf("declare consumer %s of %s: %w", g.Config.Durable, g.Stream, err)
	}
	if info := c.CachedInfo(); info.Paused || info.Config.PauseUntil != nil { // an update leaves that as it is
		if _, err := js.ResumeConsumer(ctx, g.Stream, g.Config.Durable); err != nil {
			return fmt.Errorf("resume consumer %s of %s: %w", g.Config.Durable, g.Stream, err)
		}
	}
	return nil
}

// ReplaceGroup deletes a work group's consumer and creates it again. No message is lost with it: those that were not
// acknowledged are delivered again, as if for the first time.
func ReplaceGroup(ctx context.Context, js jetstream.JetStream, g WorkGroup) error {
	if err := js.DeleteConsumer(ctx, g.Stream, g.Config.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s of %s: %w", g.Config.Durable, g.Stream, err)
	}
	return MendGroup(ctx, js, g)
}

// PassGroup makes another node of the broker answer for a work group's consumer.
func PassGroup(ctx context.Context, js jetstream.JetStream, g WorkGroup) error {
	return request(ctx, js, "$JS.API.CONSUMER.LEADER.STEPDOWN."+g.Stream+"."+g.Config.Durable)
}

// Groups are the work groups of the preprocess service and of the stable lane of every model.
func Groups(models ...string) []WorkGroup {
	all := preprocessGroups()
	for _, m := range models {
		all = append(all, inferGroups(m, LaneStable)...)
	}
	out := make([]WorkGroup, len(all))
	for i, g := range all {
		out[i] = WorkGroup{Stream: g.stream, Config: g.config}
	}
	return out
}

// ReplaceLive deletes a live stream or twin, with all that is in it, and creates it on a node of the broker other than
// away. It goes by a detour: left alone, the server places a stream of one replica by free memory, which is the same node
// however often one tries, and moving it later takes more than ten seconds in which it answers nobody. A stream of two
// replicas is on two nodes, its leader steps down in a tenth of a second, and with the second replica taken away it stays
// with its leader. Where there are no two nodes it is created wherever there is one.
func ReplaceLive(ctx context.Context, js jetstream.JetStream, name, away string, o Options) error {
	cfg, ok := Declared(o)[name]
	if !ok || cfg.Storage != jetstream.MemoryStorage {
		return fmt.Errorf("replace stream %s: it is not a live stream", name)
	}
	if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s: %w", name, err)
	}
	wide := cfg
	wide.Replicas = 2
	if _, err := js.CreateStream(ctx, wide); err != nil {
		return EnsureStream(ctx, js, name, o)
	}
	apart := leaveNode(ctx, js, name, away)
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("narrow stream %s: %w", name, err)
	}
	if apart != nil {
		return apart
	}
	return awaitStream(ctx, js, name, func(info *jetstream.StreamInfo) (bool, error) {
		switch {
		case Node(info) == "" || len(info.Cluster.Replicas) > 0: // a consumer that is made now would hold it up
			return false, nil
		case Node(info) == away:
			return true, fmt.Errorf("it is on %s again", away)
		}
		return true, nil
	})
}

// leaveNode makes a stream's leader step down until it is on another node than away.
func leaveNode(ctx context.Context, js jetstream.JetStream, name, away string) error {
	return awaitStream(ctx, js, name, func(info *jetstream.StreamInfo) (bool, error) {
		switch Node(info) {
		case "": // electing
			return false, nil
		case away:
			_ = request(ctx, js, "$JS.API.STREAM.LEADER.STEPDOWN."+name) // it may be electing again: look once more
			return false, nil
		}
		return true, nil
	})
}

// awaitStream looks at a stream until done says so.
func awaitStream(ctx context.Context, js jetstream.JetStream, name string, done func(*jetstream.StreamInfo) (bool, error)) error {
	const look, limit = 50 * time.Millisecond, 2 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if s, err := js.Stream(ctx, name); err == nil {
			if ok, err := done(s.CachedInfo()); ok || err != nil {
				if err != nil {
					err = fmt.Errorf("place stream %s: %w", name, err)
				}
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("place stream %s: %w", name, context.Cause(ctx))
		}
	}
}

// Node is the node of the broker that a stream is on, or whose replica leads; "" where that is not known, or where there
// is one node only.
func Node(info *jetstream.StreamInfo) string {
	if info == nil || info.Cluster == nil || info.Cluster.Name == "" {
		return ""
	}
	return info.Cluster.Leader
}

// request is a call of the API that nats.go has no method for.
func request(ctx context.Context, js jetstream.JetStream, subject string) error {
	msg, err := js.Conn().RequestWithContext(ctx, subject, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %w", subject, answer.Error)
	}
	return nil
}
