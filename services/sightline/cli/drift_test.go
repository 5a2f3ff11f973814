package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/feedback"
	"github.com/sightline-dev/sightline/streams"
)

// asked runs a command on a broker and returns what it wrote.
func asked(t *testing.T, js jetstream.JetStream, in string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(t.Context(), append(args, "--nats", js.Conn().ConnectedUrl()), nil, Streams{In: strings.NewReader(in), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func TestDriftStatus(t *testing.T) {
	js := brokertest.JetStream(t)
	if code, out, errs := asked(t, js, "", "drift", "status"); code != 0 || !strings.HasPrefix(out, "nothing is said") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	kv, err := js.KeyValue(t.Context(), streams.DriftBucket)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 31, 8, 0, 0, 0, time.Local)
	for _, r := range []drift.Record{
		{Integrity: &drift.Integrity{Camera: "door", At: at, Faults: []drift.Raised{{Fault: drift.Frozen, Since: at, Evidence: map[string]float64{"temporal_difference": 0, "limit": 0.02}}}}},
		{Status: &drift.Status{Camera: "door", Model: "people", Version: "3", State: drift.DataDrift, Since: at, At: at, Cause: "luma", Features: []drift.Feature{
			{Name: "luma", Test: "ks", Score: 0.9, Threshold: 0.3}, {Name: "contrast", Test: "ks", Score: 0.1, Threshold: 0.3},
		}}},
		{Status: &drift.Status{Camera: "yard", Model: "people", Version: "3", State: drift.NotEnoughData, Since: at, At: at, Cause: "no_reference", Detail: "12 of 500 pictures"}},
	} {
		if err := drift.Put(t.Context(), kv, r); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := asked(t, js, "", "drift", "status")
	if code != 0 || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	for _, want := range []string{
		"door  ", "frozen  ", "fault  ", "limit 0.02, temporal_difference 0", "people@3", "data_drift", "luma by ks: 0.9, limit 0.3", "not_enough_data", "12 of 500 pictures", "2026-01-31 08:00:00",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if _, out, _ = asked(t, js, "", "drift", "status", "--camera", "yard"); strings.Contains(out, "door") || !strings.Contains(out, "yard") {
		t.Error(out)
	}
	if _, out, _ = asked(t, js, "", "drift", "status", "--json", "--camera", "door"); !strings.Contains(out, `"fault":"frozen"`) || strings.Contains(out, "yard") {
		t.Error(out)
	}
}

func TestDriftCapture(t *testing.T) {
	js := brokertest.JetStream(t)
	kv, err := js.KeyValue(t.Context(), streams.ReferencesBucket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := kv.Watch(ctx, drift.RequestPrefix+".>")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // the drift-monitor
		for e := range w.Updates() {
			if e != nil && e.Operation() == jetstream.KeyValuePut {
				_ = kv.Delete(ctx, e.Key())
			}
		}
	}()
	code, out, errs := asked(t, js, "", "drift", "capture", "people", "--camera", "door")
	_ = w.Stop()
	if code != 0 || out != "the reference is captured anew\n" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, _, errs := asked(t, js, "", "drift", "capture", "a.b"); code == 0 || !strings.Contains(errs, "is not a name") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, _ := asked(t, js, "", "drift", "capture"); code != ExitUsage {
		t.Errorf("without a model: %d", code)
	}
}

func TestFeedbackSend(t *testing.T) {
	js := brokertest.JetStream(t)
	line := `{"schema":"sightline.feedback.v1","frame":"door/7/12","model":"people","by":"ann","at":"2026-01-31T08:00:00Z","labels":[]}` + "\n"
	other := strings.Replace(line, "/12", "/13", 1)
	if code, out, errs := asked(t, js, line+"\n"+other, "feedback", "send"); code != 0 || out != "sent 2\n" {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	stream, err := js.Stream(t.Context(), streams.Feedback)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := feedback.Decode(m.Data); err != nil || f.Frame != "door/7/13" || f.Labels == nil {
		t.Errorf("%+v, %v", f, err)
	}
	file := filepath.Join(t.TempDir(), "labels.jsonl")
	if err := os.WriteFile(file, []byte(strings.Replace(line, "/12", "/14", 1)+"{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := asked(t, js, "", "feedback", "send", file); code != ExitUsage || !strings.Contains(errs, `line 2: feedback on "": schema ""`) {
		t.Errorf("%d %s", code, errs)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 2 {
		t.Errorf("%+v, %v: something was sent although a line is wrong", info, err)
	}
}
