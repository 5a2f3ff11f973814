package status

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/pkg/conditions"
	"github.com/sightline-dev/sightline/pkg/drift"
	"github.com/sightline-dev/sightline/pkg/ledger"
	"github.com/sightline-dev/sightline/pkg/sampling"
	"github.com/sightline-dev/sightline/streams"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	at     = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
)

func ago(d time.Duration) time.Time { return at.Add(-d) }

// healthy is a system of three nodes that lacks nothing.
func healthy() System {
	var s System
	s.At = at
	s.Broker = Broker{
		Server: "n1", Cluster: "c", Bytes: 3 << 30,
		Nodes: []Node{{Name: "n1", Leads: 2}, {Name: "n2"}, {Name: "n3"}},
		Streams: []Stream{
			{Name: streams.Events, Leader: "n1", Replicas: 3, Clustered: true}, {Name: streams.Ledger, Leader: "n1", Replicas: 3, Clustered: true},
		},
	}
	s.Services = []Service{
		{Name: "ingest", Alive: []string{"in1"}},
		{Name: "preprocess", Alive: []string{"p1"}},
		{Name: "infer", Alive: []string{"i1", "i2"}, Busiest: .4},
		{Name: "recovery", Alive: []string{"r1", "r2"}, Leads: true, Leader: "r1"},
		{Name: "drift-monitor", Alive: []string{"d1"}, Leads: true, Leader: "d1"},
	}
	s.Models = []Model{{Name: "person", Version: 3, Served: 2}}
	s.Cameras = []Camera{
		{Name: "street", Enabled: true, State: "live", Since: ago(time.Hour), FPS: 10, Answers: []LastAnswer{{Model: "person", At: ago(time.Second), AgeMS: 40, Status: "ok"}}},
		{Name: "garden", State: "disabled"},
	}
	s.Books = Books{Captured: 100, Predicted: 90, Superseded: 8, InFlight: 2}
	s.Queues = []Queue{{Stream: streams.FramesLive, Group: "preprocess", Waiting: 2, InHand: 1, Workers: 1}}
	s.Drift = &drift.Report{Statuses: []drift.Status{{Camera: "street", Model: "person", State: drift.OK, At: ago(time.Second)}}}
	return s
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		harm func(*System)
		want []string // area: what
	}{
		{"nothing", func(*System) {}, nil},
		{"a node is away", func(s *System) {
			s.Broker.Nodes[2].Offline = true
			s.Broker.Streams[0].Behind = []string{"n3"}
		}, []string{"broker: node n3 is away"}},
		{"a replica is behind", func(s *System) { s.Broker.Streams[1].Behind = []string{"n2"} }, []string{"broker: a replica is not up to date: LEDGER"}},
		{"no leader", func(s *System) { s.Broker.Streams[1].Leader = "" }, []string{"broker: no leader: LEDGER"}},
		{"streams are missing", func(s *System) { s.Broker.Missing = strings.Split("A B C D E F G", " ") }, []string{"broker: declared and not there: A, B, C, D, E and 2 more"}},
		{"nobody captures", func(s *System) {
			s.Services[0] = Service{Name: "ingest", Dead: []Death{{Instance: "in1", At: ago(time.Minute)}}}
		}, []string{"services: nobody runs ingest"}},
		{"nobody leads", func(s *System) { s.Services[3].Leader = "" }, []string{"services: nobody leads recovery"}},
		{"a standby less", func(s *System) { s.Services[3].Alive = []string{"r1"} }, nil},
		{"refused", func(s *System) { s.Models[0].Refused = "no such file" }, []string{"models: version 3 of person is refused: no such file"}},
		{"not served", func(s *System) { s.Models[0].Served = 0 }, []string{"models: no process serves person"}},
		{"down for a moment", func(s *System) { s.Cameras[0].State, s.Cameras[0].Since = "connecting", ago(2*time.Second) }, nil},
		{"down", func(s *System) {
			s.Cameras[0].State, s.Cameras[0].Cause, s.Cameras[0].Since = "down", "auth", ago(time.Minute)
		}, []string{"cameras: street is down: auth"}},
		{"unclaimed", func(s *System) { s.Cameras[0] = Camera{Name: "street", Enabled: true, State: "unclaimed"} }, []string{"cameras: street is unclaimed"}},
		{"no answers", func(s *System) { s.Cameras[0].Answers[0].At = ago(30 * time.Second) }, []string{"cameras: street is live, and person has not answered for 30s"}},
		{"no answers ever", func(s *System) { s.Cameras[0].Answers[0].At = time.Time{} }, []string{"cameras: street is live, and person has not answered for 1h0m0s"}},
		{"a slow camera", func(s *System) { s.Cameras[0].Answers[0].At, s.Cameras[0].FPS = ago(20*time.Second), .1 }, nil},
		{"lost", func(s *System) {
			s.Books.Unbalanced = []ledger.Line{{Camera: "street", Model: "person", Lost: 3}}
		}, []string{"books: frames lost: 3 of street for person, and nothing explains what became of them"}},
		{"quarantined long ago", func(s *System) { s.DLQ.Messages = 7 }, nil},
		{"quarantined", func(s *System) { s.DLQ.Messages, s.DLQ.LastHour = 7, 2 }, []string{"dlq: 2 messages quarantined within the last hour"}},
		{"shedding", func(s *System) {
			s.Sampling = &sampling.State{Share: sampling.Shares{5: .25, 9: 1}}
		}, []string{"capacity: workers cannot keep up: cameras capture 25 % (priority 5) of their pictures"}},
		{"nobody serves", func(s *System) { s.Queues[0].Workers = 0 }, []string{"capacity: waiting in FRAMES_LIVE for preprocess: 2, and nobody serves it"}},
		{"data drift alone", func(s *System) { s.Drift.Statuses[0].State = drift.DataDrift }, nil},
		{"suspected loss", func(s *System) {
			s.Drift.Statuses[0].State, s.Drift.Statuses[0].Cause = drift.SuspectedLoss, "detections"
		}, []string{"drift: person answers worse on street than its reference, it seems: detections"}},
		{"frozen", func(s *System) {
			s.Drift.Integrities = []drift.Integrity{{Camera: "street", Faults: []drift.Raised{{Fault: drift.Frozen}}}}
		}, []string{"drift: street looks frozen"}},
		{"stale", func(s *System) { s.Drift.Statuses[0].At = ago(time.Hour) }, []string{"drift: what is said of street and person is old"}},
		{"nobody watches", func(s *System) { s.Services = s.Services[:4] }, []string{"drift: nobody watches for drift: what is shown is old"}},
		{"no drift-monitor at all", func(s *System) { s.Services, s.Drift = s.Services[:4], nil }, nil},
		{"what is broken first comes first", func(s *System) {
			s.Problems = []Problem{{Area: "dlq", What: "could not be read"}}
			s.Broker.Missing = []string{"A"}
		}, []string{"broker: declared and not there: A", "dlq: could not be read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := healthy()
			tt.harm(&s)
			s.Judge()
			var got []string
			for _, p := range s.Problems {
				got = append(got, p.Area+": "+p.What)
				if p.Do == "" && p.What != "could not be read" {
					t.Errorf("nothing to do about %s", p.What)
				}
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") || s.Healthy != (len(tt.want) == 0) {
				t.Errorf("%v %q", s.Healthy, got)
			}
		})
	}
}

// Every runbook that a problem names is there.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	s := sick()
	if len(s.Problems) < 10 {
		t.Fatalf("%d problems", len(s.Problems))
	}
	for _, p := range s.Problems {
		if !strings.Contains(string(page), "\n## "+p.Page+"\n") {
			t.Errorf("%s: docs/runbooks.md has no heading %q", p.What, p.Page)
		}
	}
}

// sick is a system in which everything is wrong at once.
func sick() System {
	s := healthy()
	s.Broker.Nodes[2].Offline, s.Broker.Missing = true, []string{"KV_MODELS"}
	s.Broker.Streams[0].Leader, s.Broker.Streams[1].Behind = "", []string{"n2"}
	s.Services[0] = Service{Name: "ingest", Alive: []string{}, Dead: []Death{{Instance: "in1", Cause: "silent", At: ago(time.Minute)}}}
	s.Services[3].Leader = ""
	s.Models = append(s.Models, Model{Name: "face", Version: 1, Refused: "sha256", Since: ago(time.Hour)}, Model{Name: "car", Version: 1})
	s.Cameras[0].Answers[0].At = ago(time.Minute)
	s.Cameras = append(s.Cameras, Camera{Name: "door", Enabled: true, State: "down", Cause: "refused", Since: ago(time.Minute)})
	s.Books.Lost, s.Books.Unbalanced = 1, []ledger.Line{{Camera: "street", Model: "person", Lost: 1}}
	s.DLQ = Quarantined{Messages: 3, LastHour: 1}
	s.Sampling = &sampling.State{Share: sampling.Shares{5: .5}, Since: ago(time.Minute)}
	s.Queues[0].Workers = 0
	s.Drift.Statuses = append(s.Drift.Statuses, drift.Status{Camera: "door", Model: "person", State: drift.SuspectedLoss, Cause: "detections", Since: ago(time.Minute)})
	s.Drift.Integrities = []drift.Integrity{{Camera: "door", Faults: []drift.Raised{{Fault: drift.Black, Since: ago(time.Minute)}}}}
	s.Conditions = map[string]conditions.Condition{"door": {Reasons: []string{"black"}, Models: map[string][]string{"person": {"suspected_loss"}}}}
	s.Judge()
	return s
}

func TestWrite(t *testing.T) {
	t.Parallel()
	well := healthy()
	well.Judge()
	for name, s := range map[string]System{"healthy": well, "sick": sick()} {
		var out bytes.Buffer
		if err := s.Write(&out, time.UTC); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("got\n%s\nwant\n%s", out.String(), want)
		}
	}
}
