package ledger

import (
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/streams"
)

// Incidents are in LEDGER once, between the records, and reach whoever reads or follows it.
func TestIncidentsAreRead(t *testing.T) {
	t.Parallel()
	js := brokertest.JetStream(t)
	r := NewReporter(js, "preprocess", "p1")
	r.SetRoute("cam", 1, Route{Delivery: streams.Freshest, Models: []string{"m"}, MaxAge: time.Second})
	for seq := uint64(1); seq <= 2; seq++ {
		r.Add(name("cam", seq), Published, "", "")
		r.Add(name("cam", seq), Taken, "", "")
	}
	r.Add(name("cam", 3), Published, "", "")
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	died := Incident{Kind: WorkerEnded, Stage: "preprocess", Instance: "p1", At: time.Now()}
	for range 3 {
		if err := TellIncident(t.Context(), js, died); err != nil {
			t.Fatal(err)
		}
	}
	// A clock that is an hour ahead says nothing of what is still to be captured.
	if err := TellIncident(t.Context(), js, Incident{Kind: WorkerEnded, Stage: "preprocess", Instance: "p2", At: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	b, err := Read(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	if b.Unreadable != 0 || len(b.incidents) != 2 || b.incidents[1].At.After(time.Now()) {
		t.Errorf("%d unreadable, incidents %+v", b.Unreadable, b.incidents)
	}
	now := time.Now().Add(5 * time.Second)
	l := b.Lines(now, nil)
	if len(l) != 1 || figures(l[0]) != "captured 3, superseded 2, in flight 1, superseded/worker_died 2" {
		t.Errorf("%+v", l)
	}
	answer(t, js, "cam/1/1") // it had, before it died
	if err := b.explain(t.Context(), js, now, nil); err != nil {
		t.Fatal(err)
	}
	l = b.Lines(now, nil)
	if len(l) != 1 || figures(l[0]) != "captured 3, predicted 1, superseded 1, in flight 1, superseded/worker_died 1" {
		t.Errorf("explained: %+v", l)
	}
}

func TestIncidentErrors(t *testing.T) {
	t.Parallel()
	for in, msg := range map[string]string{
		`x`:                       "ledger incident: invalid character 'x' looking for beginning of value",
		`{}`:                      "ledger incident: needs a kind and a time",
		`{"kind":"worker_ended"}`: "ledger incident: needs a kind and a time",
		`{"kind":"worker_ended","stage":"infer","at":"2026-10-01T12:00:00Z"}`: "ledger incident worker_ended: needs a stage and an instance",
		`{"kind":"stream_purged","at":"2026-10-01T12:00:00Z"}`:                "ledger incident stream_purged: needs a stream",
	} {
		if _, err := DecodeMessage(streams.IncidentSubject, []byte(in), start); err == nil || err.Error() != msg {
			t.Errorf("%s: %v, want %s", in, err, msg)
		}
	}
	if err := TellIncident(t.Context(), nil, Incident{Kind: StreamPurged, At: start}); err == nil {
		t.Error("told what nobody could read")
	}
	if _, err := DecodeMessage(streams.IncidentSubject, []byte(`{"kind":"of a newer version","at":"2026-10-01T12:00:00Z"}`), start); err != nil {
		t.Error(err)
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, subject string
		want            bool
	}{
		{"a.b", "a.b", true},
		{"a.*", "a.b", true},
		{"a.>", "a.b.c", true},
		{">", "a", true},
		{"a.>", "a", false},
		{"a.*", "a.b.c", false},
		{"a.b.c", "a.b", false},
		{"*.c", "a.b", false},
	} {
		if got := covers(c.filter, c.subject); got != c.want {
			t.Errorf("%s covers %s: %v", c.filter, c.subject, got)
		}
	}
}

// Incidents are forgotten when they can concern nothing new.
func TestIncidentsAreForgotten(t *testing.T) {
	t.Parallel()
	var b Books
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Minute)
		b.Befall(Incident{Kind: WorkerEnded, Stage: "infer", Instance: "i", At: at})
		b.Lines(at, nil)
	}
	if n := len(b.incidents); n > 12 {
		t.Errorf("%d incidents", n)
	}
	b.Befall(Incident{Kind: WorkerEnded, Stage: "infer", Instance: "i", At: start})
	if got := b.incidents[len(b.incidents)-1].At; got.Equal(start) {
		t.Error("an old one is back")
	}
}

// A worker that takes a frame again after it had handed it back has it in its hands.
func TestReporterTellsTakesApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		marks []Mark
		want  string
	}{
		{"taken", []Mark{Taken}, "captured 2, predicted 1, lost 1"},
		{"returned", []Mark{Taken, Returned}, "captured 2, predicted 1, superseded 1, superseded/returned 1"},
		{"taken again", []Mark{Taken, Returned, Taken}, "captured 2, predicted 1, lost 1"},
		{"returned again", []Mark{Taken, Returned, Taken, Returned}, "captured 2, predicted 1, superseded 1, superseded/returned 1"},
	} {
		for _, flushed := range []bool{false, true} {
			f := &records{}
			r := NewReporter(f, "infer", "i1")
			r.SetRoute("cam", 1, Route{Delivery: streams.Freshest, Models: []string{"m"}, MaxAge: time.Second})
			for _, m := range c.marks {
				r.Add(name("cam", 1), m, "m", "")
				if flushed {
					if err := r.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.Add(name("cam", 2), Taken, "m", "")
			r.Add(name("cam", 2), Predicted, "m", "")
			if err := r.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			var b Books
			for _, m := range f.told {
				b.Take(m)
			}
			if l := b.Lines(time.Now().Add(time.Minute), nil); len(l) != 1 || figures(l[0]) != c.want {
				t.Errorf("%s: %+v, want %s", c.name, l, c.want)
			}
		}
	}
}

// What is handed back for ever does not make its reporter grow.
func TestReturnsAreBounded(t *testing.T) {
	t.Parallel()
	f := &records{}
	r := NewReporter(f, "infer", "i1")
	for range 1000 {
		r.Add(name("cam", 1), Taken, "m", "")
		r.Add(name("cam", 1), Returned, "m", "")
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(f.told[0].Record.Entries); n > 2*maxReturns+1 {
		t.Errorf("%d entries", n)
	}
	r.back.turned = r.back.turned.Add(-2 * returnsKept)
	r.Add(name("cam", 2), Returned, "m", "")
	r.back.turned = r.back.turned.Add(-2 * returnsKept)
	r.Add(name("cam", 3), Returned, "m", "")
	if n := len(r.back.now) + len(r.back.before); n != 2 {
		t.Errorf("%d frames are remembered", n)
	}
}

// A worker that dies explains what it had in hand, not what it had lost long before.
func TestADeathExcusesNothingOld(t *testing.T) {
	t.Parallel()
	told := func(outage time.Duration) string {
		var b Books
		at := start
		for seq := uint64(1); seq <= 200; seq++ { // one in half a second; frame 1, and the last but one, have no fate
			at = at.Add(500 * time.Millisecond)
			if seq == 10 {
				at = at.Add(outage)
			}
			r := routed(record(1, at, Captured, "", seq, seq), streams.Freshest, "m")
			r.Instance, r.Stage = "w", "infer"
			r.Entries = append(r.Entries, Entry{Mark: Published, Frames: Ranges{{seq, seq}}}, Entry{Mark: Forwarded, Model: "m", Frames: Ranges{{seq, seq}}},
				Entry{Mark: Taken, Model: "m", Frames: Ranges{{seq, seq}}})
			if seq != 1 && seq != 199 {
				r.Entries = append(r.Entries, Entry{Mark: Predicted, Model: "m", Frames: Ranges{{seq, seq}}})
			}
			b.Apply(r)
			if outage > 0 && seq == 12 {
				break
			}
		}
		b.Befall(Incident{Kind: WorkerEnded, Stage: "infer", Instance: "w", At: at})
		l := b.Lines(at.Add(20*time.Second), nil)
		again(t, &b)
		return figures(l[0])
	}
	if got := told(0); got != "captured 200, predicted 198, superseded 1, lost 1, superseded/worker_died 1" {
		t.Errorf("%s", got)
	}
	// While the broker was away the worker may have held on to what it had.
	if got := told(10 * time.Minute); got != "captured 12, predicted 11, superseded 1, superseded/worker_died 1" {
		t.Errorf("with an outage: %s", got)
	}
}

// An answer that was looked up while LEDGER was made anew is in the totals already, or nowhere.
func TestAnswersOfAClosedEpoch(t *testing.T) {
	t.Parallel()
	var b Books
	b.Apply(routed(record(1, start, Taken, "m", 1, 3), streams.Freshest, "m"))
	b.audited = true
	q := []question{{camera: "cam", model: "m", epoch: 1, frames: Ranges{{1, 3}}}}
	b.breakOff()
	before := b.Lines(start.Add(time.Minute), nil)
	b.learn(q, []Record{record(1, start, Predicted, "m", 1, 3)}, start.Add(time.Minute))
	sameLines(t, "after the answer", b.Lines(start.Add(time.Minute), nil), before)
}
