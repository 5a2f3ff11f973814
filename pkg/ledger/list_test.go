package ledger

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mute is a bucket whose watch never tells anything.
type mute struct{ jetstream.KeyValue }

type muteWatch struct{ jetstream.KeyWatcher }

func (mute) WatchAll(context.Context, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return muteWatch{}, nil
}

func (muteWatch) Updates() <-chan jetstream.KeyValueEntry { return make(chan jetstream.KeyValueEntry) }
func (muteWatch) Stop() error                             { return nil }

// A watch that began while a cluster had no leader ends with an error: whoever asked asks again.
func TestAListThatIsNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := list(t.Context(), mute{}, nil); err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took != listTimeout {
			t.Errorf("took %s", took)
		}
	})
}
