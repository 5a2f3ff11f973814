package cli

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/services/sightline/life"
	"github.com/sightline-dev/sightline/streams"
)

func TestTrace(t *testing.T) {
	w := newWard(t)
	w.says(ExitUsage, nil, []string{`frame name "street/7": want <camera>/<epoch>/<seq>`}, "trace", "street/7")
	w.says(ExitUsage, nil, nil, "trace")
	w.says(ExitFailed, []string{"not known: who had it, and when: LEDGER has no record"}, []string{"nobody knows of frame street/7/1"}, "trace", "street/7/1")

	w.quarantine("street")
	r := ledger.NewReporter(w.js, "ingest", "in1")
	r.SetRoute("street", 7, ledger.Route{Delivery: streams.Freshest, Models: []string{"person"}, MaxAge: time.Second})
	r.Add(frame.Name{Camera: "street", Epoch: 7, Seq: 1}, ledger.Captured, "", "")
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.says(0, []string{"fate      person: quarantined", "sightline dlq show 1", "ingest in1", "captured", "not known: its trace"}, nil, "trace", "street/7/1")
	var l life.Life
	if err := json.Unmarshal([]byte(w.says(0, nil, nil, "trace", "--json", "street/7/1")), &l); err != nil {
		t.Fatal(err)
	}
	if len(l.DeadLetter) != 1 || l.DeadLetter[0].Stage != "preprocess" || len(l.Steps) < 2 {
		t.Errorf("%+v", l)
	}
}
