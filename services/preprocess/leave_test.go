package preprocess_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/fleet"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/streams"
)

// unheard is a broker whose LEDGER takes nothing.
type unheard struct{ jetstream.JetStream }

func (u unheard) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if strings.HasPrefix(m.Subject, "ledger.") {
		return nil, nats.ErrTimeout
	}
	return u.JetStream.PublishMsg(ctx, m, opts...)
}

// A worker that could not tell the books what it saw is to be declared dead: who left in order has nothing in hand.
func TestWhoCannotSayWhatItSawDoesNotLeave(t *testing.T) {
	js := brokertest.JetStream(t)
	cfg := preprocess.Default()
	cfg.Instance = "p"
	m := fleet.NewMember(js, fleet.Config{Service: preprocess.Name, Instance: cfg.Instance})
	s := preprocess.NewService(cfg, preprocess.Deps{JetStream: unheard{js}, Imager: &preprocess.Fake{}, Member: m, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.While(ctx, s.Run) }()
	late := facts()
	late.Deadline = time.Now().Add(-time.Second)
	send(t, js, late, streams.EveryFrame, []byte("jpeg"))
	eventually(t, "the frame to be dropped", func() bool {
		s, err := js.Stream(t.Context(), streams.Frames)
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	kv, err := js.KeyValue(t.Context(), streams.WorkersBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(t.Context(), m.Key()); err != nil {
		t.Errorf("its entry: %v", err)
	}
}
