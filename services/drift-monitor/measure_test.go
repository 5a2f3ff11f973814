package driftmonitor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/telemetry"
	"github.com/sightline-dev/sightline/pkg/telemetry/telemetrytest"
	"github.com/sightline-dev/sightline/streams"
)

// measured is the telemetry of a process, and what it exports.
func measured(t *testing.T) (*telemetry.Telemetry, func() telemetrytest.Samples) {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: Name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel, func() telemetrytest.Samples {
		t.Helper()
		w := httptest.NewRecorder()
		tel.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		all, err := telemetrytest.Parse(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := all.Check(nil); err != nil {
			t.Error(err)
		}
		return all
	}
}

// Everything that is said has its figure, with labels of the table, while this replica leads and the camera is there.
func TestWhatIsSaidIsExported(t *testing.T) {
	t.Parallel()
	tel, samples := measured(t)
	m := newMeasure(tel)
	over := m.lead()
	at := func(v float64) *drift.Estimate { return &drift.Estimate{Value: v} }
	for _, camera := range []string{"door", "yard"} {
		m.say(drift.Record{Status: &drift.Status{
			Camera: camera, Model: "person", State: drift.SuspectedLoss, EffectiveSamples: 40,
			Features: []drift.Feature{{Name: "luma", Test: "ks", Score: 1.5, Threshold: .5}},
			Quality: &drift.Quality{
				Precision: []drift.Estimate{{Value: .9, Source: drift.FromLabels}, {Value: .8, Source: drift.FromScores}},
				Recall:    at(.7), AP50: at(.6), DetectionRateRatio: at(.2),
			},
		}})
	}
	m.say(drift.Record{Status: &drift.Status{Camera: "yard", Model: "person", State: drift.NotEnoughData}})
	all := make([]drift.Raised, 0, len(drift.Faults()))
	for _, f := range drift.Faults() { // each is in the table's closed set
		all = append(all, drift.Raised{Fault: f})
	}
	m.say(drift.Record{Integrity: &drift.Integrity{Camera: "door", Faults: all}})
	m.say(drift.Record{Integrity: &drift.Integrity{Camera: "yard", Faults: all[:1]}})
	m.say(drift.Record{Fairness: &drift.Fairness{Model: "person", Gaps: []drift.Gap{{Metric: "recall", SliceBy: "size", Gap: .3, Ratio: .6}}}})
	got := samples()
	door, yard := map[string]string{"camera": "door", "model": "person"}, map[string]string{"camera": "yard", "model": "person"}
	for _, c := range []struct {
		name   telemetry.Name
		labels map[string]string
		want   float64
	}{
		{telemetry.DriftState, door, 2},
		{telemetry.DriftState, yard, 3},
		{telemetry.DriftEffectiveSamples, door, 40},
		{telemetry.DriftScore, map[string]string{"camera": "door", "feature": "luma", "test": "ks"}, 1.5},
		{telemetry.DriftThreshold, door, .5},
		{telemetry.QualityPrecision, map[string]string{"camera": "door", "source": "labels"}, .9},
		{telemetry.QualityPrecision, map[string]string{"camera": "door", "source": "scores"}, .8},
		{telemetry.QualityRecall, door, .7},
		{telemetry.QualityAP50, door, .6},
		{telemetry.QualityDetectionRateRatio, door, .2},
		{telemetry.IntegrityFault, map[string]string{"camera": "door"}, float64(len(all))},
		{telemetry.IntegrityFault, map[string]string{"camera": "yard"}, 1},
		{telemetry.FairnessGap, map[string]string{"model": "person", "metric": "recall", "slice_by": "size"}, .3},
		{telemetry.FairnessRatio, nil, .6},
	} {
		if v := got.Sum(c.name, c.labels); v != c.want {
			t.Errorf("%s%v is %g, want %g", c.name, c.labels, v, c.want)
		}
	}
	m.forget("door", "person")
	m.retire("person")
	for _, s := range samples() {
		if s.Labels["camera"] == "door" || s.Labels["slice_by"] != "" || s.Name == telemetry.DriftScore.String() {
			t.Errorf("%+v is left", s)
		}
	}
	over()
	if samples().Has(telemetry.DriftState) {
		t.Error("who leads no more still tells")
	}
	defer m.lead()()
	if samples().Has(telemetry.DriftState) {
		t.Error("a new reign begins with what the old one said")
	}
}

// Only who leads exports; who follows begins with what was known; and of a camera that is removed nothing is left.
func TestTheLeaderExports(t *testing.T) {
	w := newWorld(t, "door", "yard")
	clean, black := footage(t, "clean"), footage(t, "black")
	var samplesA, samplesB func() telemetrytest.Samples
	w.tel, samplesA = measured(t)
	a, stopA := w.start("a")
	w.until("a leads", a.Leading)
	w.tel, samplesB = measured(t)
	b, _ := w.start("b")
	w.show("yard", clean, 100)
	w.show("door", clean, 4000)
	before := w.untilState("door", drift.OK)
	w.show("door", black, 50)
	w.untilFaults("door", drift.Black)
	fault := map[string]string{"camera": "door", "fault": string(drift.Black)}
	hold := func(what string, samples func() telemetrytest.Samples) {
		w.until(what+" exports", func() bool {
			all := samples()
			return all.Sum(telemetry.IntegrityFault, fault) == 1 && all.Sum(telemetry.IntegrityFault, nil) == 1 && all.Has(telemetry.DriftState) &&
				all.Sum(telemetry.DriftEffectiveSamples, map[string]string{"camera": "door"}) == before.EffectiveSamples &&
				all.Has(telemetry.DriftScore) && all.Has(telemetry.DriftThreshold)
		})
	}
	hold("a", samplesA)
	if all := samplesB(); all.Has(telemetry.IntegrityFault) || all.Has(telemetry.DriftState) {
		t.Errorf("a standby exports %v", all)
	}
	stopA()
	w.until("b leads", b.Leading)
	hold("b", samplesB)
	if all := samplesA(); all.Has(telemetry.IntegrityFault) || all.Has(telemetry.DriftState) {
		t.Errorf("who leads no more exports %v", all)
	}
	w.until("fairness is compared", func() bool { return w.key(streams.DriftBucket, drift.FairnessKey("person")) })
	w.declare([]string{"door", "yard"})
	w.until("nothing is left", func() bool {
		all := samplesB()
		return !all.Has(telemetry.IntegrityFault) && !all.Has(telemetry.DriftState) && !w.key(streams.DriftBucket, drift.FairnessKey("person")) &&
			!w.key(streams.ReferencesBucket, fairnessPrefix+"person")
	})
}
