package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sightline-dev/sightline/pkg/broker/brokertest"
	"github.com/sightline-dev/sightline/pkg/dlq"
	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/stage"
	"github.com/sightline-dev/sightline/streams"
)

const patience = 20 * time.Second

// ward is a broker and a stage that refuses frames, until it is healed.
type ward struct {
	*testing.T
	js     jetstream.JetStream
	nats   string
	healed atomic.Bool
	frames uint64
}

func newWard(t *testing.T) *ward {
	t.Helper()
	js := brokertest.JetStream(t)
	w := &ward{T: t, js: js, nats: js.Conn().ConnectedUrl()}
	st := stage.New(stage.Config{
		Name: "preprocess", Sources: streams.Preprocess(js), Publisher: js, Version: "person@3",
		Quarantine: func(m stage.Message) string { return streams.DLQSubject("preprocess", streams.LastToken(m.Subject)) },
		Identity:   func(m stage.Message) string { return m.Header[frame.HeaderName][0] },
	}, stage.Each(func(_ context.Context, m stage.Message) ([]stage.Output, error) {
		f, err := frame.Decode(m.Header)
		if err != nil || !w.healed.Load() {
			return nil, stage.Poison(errors.Join(errors.New("not \x1b[31ma picture"), err))
		}
		return []stage.Output{{Subject: streams.PredictionSubject("person", f.Name.Camera), ID: f.Name.String(), Data: m.Data}}, nil
	}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- st.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// quarantine publishes a frame of a camera that is refused, and returns when DLQ has it.
func (w *ward) quarantine(camera string) {
	w.Helper()
	w.frames++
	facts := frame.Facts{
		Name: frame.Name{Camera: camera, Epoch: 7, Seq: w.frames}, Captured: time.Now(), Deadline: time.Now().Add(100 * time.Millisecond),
		SourceW: 4, SourceH: 2, Models: []string{"person"},
	}
	m := &nats.Msg{Subject: streams.FrameSubject(streams.Freshest, camera), Header: nats.Header{}, Data: []byte("\xff\xd8 a jpeg")}
	facts.Encode(m.Header)
	before := w.stored(streams.DLQ, 0)
	if _, err := w.js.PublishMsg(w.Context(), m); err != nil {
		w.Fatal(err)
	}
	w.stored(streams.DLQ, before+1)
}

// stored waits until a stream has stored so many messages, and returns how many they are.
func (w *ward) stored(stream string, atLeast uint64) uint64 {
	w.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for {
		s, err := w.js.Stream(w.Context(), stream)
		if err != nil {
			w.Fatal(err)
		}
		if n := s.CachedInfo().State.LastSeq; n >= atLeast {
			return n
		}
		select {
		case <-tick.C:
		case <-timeout:
			w.Fatalf("%s: not stored within %s", stream, patience)
		}
	}
}

// says runs a command line and holds it to its exit code and output.
func (w *ward) says(code int, out, errs []string, args ...string) string {
	w.Helper()
	got, stdout, stderr := run(w.T, w.Context(), append(args, "--nats", w.nats)...)
	holds(w.T, code, out, errs, got, stdout, stderr)
	return stdout
}

func holds(t *testing.T, code int, out, errs []string, got int, stdout, stderr string) {
	t.Helper()
	if got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	for _, s := range out {
		if !strings.Contains(stdout, s) {
			t.Errorf("%q is not in the output\n%s", s, stdout)
		}
	}
	for _, s := range errs {
		if !strings.Contains(stderr, s) {
			t.Errorf("%q is not in the errors\n%s", s, stderr)
		}
	}
	if t.Failed() {
		t.Fatalf("%s%s", stdout, stderr)
	}
}

func TestDLQ(t *testing.T) {
	w := newWard(t)
	for _, camera := range []string{"door", "door", "gate", "gate", "gate"} {
		w.quarantine(camera)
	}

	list := w.says(0, []string{"SEQ", "preprocess", "door/7/1", "gate/7/5", "person", "not  [31ma picture"}, nil, "dlq", "list")
	if strings.Contains(list, "\x1b") || strings.Count(list, "\n") != 6 {
		t.Errorf("%q", list)
	}
	if out := w.says(0, []string{"gate/7/3"}, nil, "dlq", "list", "--camera", "gate", "--stage", "preprocess", "--since", "1h"); strings.Contains(out, "door") {
		t.Errorf("%s", out)
	}
	if out := w.says(0, []string{`"sequence":5`, `"frame":"gate/7/5"`}, []string{"the newest 1 of 3 messages of camera gate: --limit 0 lists all"}, "dlq", "list", "--camera", "gate", "-n", "1", "--json"); strings.Count(out, "\n") != 1 {
		t.Errorf("%s", out)
	}
	w.says(0, []string{"SEQ"}, nil, "dlq", "list", "--stage", "infer")

	w.says(0, []string{"door/7/1", "person@3", "not  [31ma picture", "frames.live.door", "9 bytes", "Sightline-Deadline"}, nil, "dlq", "show", "1")
	file := filepath.Join(t.TempDir(), "frame.jpg")
	out := w.says(0, nil, nil, "dlq", "show", "1", "--payload", file, "--json")
	var shown struct {
		Frame, Version, Stage string
		Attempts              int
		Headers               map[string][]string
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.Frame != "door/7/1" || shown.Version != "person@3" || shown.Attempts != 1 || shown.Headers[frame.HeaderModels][0] != "person" {
		t.Errorf("%s: %v", out, err)
	}
	data, err := os.ReadFile(file)
	if err != nil || string(data) != "\xff\xd8 a jpeg" {
		t.Errorf("payload %q, %v", data, err)
	}
	if out := w.says(0, nil, nil, "dlq", "show", "1", "--payload", "-"); out != "\xff\xd8 a jpeg" {
		t.Errorf("payload %q", out)
	}
	w.says(ExitFailed, nil, []string{"message 99: it is not in DLQ"}, "dlq", "show", "99")

	w.healed.Store(true)
	w.says(0, []string{"replayed 1: door/7/1"}, nil, "dlq", "replay", "1")
	w.stored(streams.Predictions, 1)
	w.says(ExitFailed, nil, []string{"message 1: it is not in DLQ"}, "dlq", "replay", "1")
	// The others still are.
	w.says(ExitFailed, []string{`"action":"replayed"`, `"frame":"door/7/2"`}, []string{"message 1: it is not in DLQ"}, "dlq", "replay", "1", "2", "--json")
	w.stored(streams.Predictions, 2)
	w.says(0, []string{"dropped 3: gate/7/3"}, nil, "dlq", "drop", "3")
	w.says(0, []string{"replayed 2 messages of camera gate"}, nil, "dlq", "replay", "--all", "--camera", "gate", "--yes")
	w.stored(streams.Predictions, 4)
	w.says(0, []string{`{"action":"dropped","done":0,"left":0}`}, nil, "dlq", "drop", "--all", "--json", "--yes")
	w.says(0, []string{"replayed 0 messages"}, nil, "dlq", "replay", "--all", "-y")

	told := w.says(0, []string{"dlq/replayed", "dlq/dropped", "frame=gate/7/3", "sequence=3", "stage=preprocess"}, nil, "events", "--area", "dlq")
	if strings.Count(told, "\n") != 5 || strings.Count(told, "dlq/replayed") != 4 {
		t.Errorf("%s", told)
	}
}

// TestTellEventsTellsAll tells more at once than a publisher of events has room for.
func TestTellEventsTellsAll(t *testing.T) {
	js := brokertest.JetStream(t)
	var stderr bytes.Buffer
	a := &app{std: Streams{Err: &stderr}}
	tell, told := a.tellEvents(t.Context(), js)
	const n = 3000
	for range n {
		tell(dlqEvent("dropped", dlq.Entry{Camera: "street", Sequence: 1}))
	}
	told()
	s, err := js.Stream(t.Context(), streams.Events)
	if err != nil {
		t.Fatal(err)
	}
	if stored := s.CachedInfo().State.Msgs; stored != n || stderr.Len() > 0 {
		t.Errorf("%d events; %s", stored, stderr.String())
	}
}

func TestDLQUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"dlq", "nonsense"}, "unknown command"},
		{[]string{"dlq", "list", "extra"}, "unknown command"},
		{[]string{"dlq", "list", "--camera", "a.b"}, `"a.b" is not a name`},
		{[]string{"dlq", "list", "--limit", "-1"}, "negative"},
		{[]string{"dlq", "list", "--since", "yesterday"}, "yesterday"},
		{[]string{"dlq", "show"}, "accepts 1 arg"},
		{[]string{"dlq", "show", "first"}, `"first" is not the sequence`},
		{[]string{"dlq", "show", "0"}, `"0" is not the sequence`},
		{[]string{"dlq", "replay"}, "--all"},
		{[]string{"dlq", "replay", "-1"}, "unknown shorthand flag"},
		{[]string{"dlq", "replay", "1", "--all"}, "not both"},
		{[]string{"dlq", "drop", "1", "--camera", "street"}, "choose among --all"},
		{[]string{"dlq", "drop", "--all"}, "needs --yes"},
		{[]string{"events", "--area", "a b"}, "--area"},
		{[]string{"events", "--since", "yesterday"}, "yesterday"},
		{[]string{"workers", "extra"}, "unknown command"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			code, _, errs := run(t, t.Context(), append(tt.args, "--nats", "nats://127.0.0.1:1")...)
			if code != ExitUsage || !strings.Contains(errs, tt.want) {
				t.Errorf("exit code %d: %s", code, errs)
			}
		})
	}
}

// terminal is both ends of one.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	var number, locked int32
	for request, value := range map[uintptr]*int32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &locked} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

func TestDLQAsksOnATerminal(t *testing.T) {
	w := newWard(t)
	w.quarantine("door")
	w.quarantine("gate")
	at := func(answer string, args ...string) (code int, out, errs string) {
		t.Helper()
		person, program := terminal(t)
		if _, err := person.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		code = Main(t.Context(), append(args, "--nats", w.nats), os.Environ(), Streams{In: program, Out: &stdout, Err: &stderr})
		return code, stdout.String(), stderr.String()
	}
	for _, answer := range []string{"n\n", "\n", "\x04", "yesterday\n"} {
		code, out, errs := at(answer, "dlq", "drop", "--all")
		holds(t, ExitFailed, nil, []string{"drop 2 messages? [y/N]", "nothing was dropped"}, code, out, errs)
	}
	code, out, errs := at("y\n", "dlq", "drop", "--all", "--camera", "gate")
	holds(t, 0, []string{"dropped 1 message of camera gate"}, []string{"drop 1 message of camera gate? [y/N]"}, code, out, errs)
	code, out, errs = at("", "dlq", "drop", "--all", "--yes")
	holds(t, 0, []string{"dropped 1 message\n"}, nil, code, out, errs)
	if strings.Contains(errs, "[y/N]") {
		t.Errorf("%s", errs)
	}

	_, program := terminal(t)
	var stderr bytes.Buffer
	code = Main(t.Context(), []string{"dlq", "show", "1", "--payload", "-", "--nats", w.nats}, os.Environ(), Streams{In: strings.NewReader(""), Out: program, Err: &stderr})
	holds(t, ExitUsage, nil, []string{"a payload is binary"}, code, "", stderr.String())
}

// TestDLQAnswersCtrlC interrupts the question.
func TestDLQAnswersCtrlC(t *testing.T) {
	w := newWard(t)
	w.quarantine("door")
	_, program := terminal(t)
	ctx, interrupt := context.WithCancel(t.Context())
	stderr := &lineBuffer{}
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, []string{"dlq", "drop", "--all", "--nats", w.nats}, os.Environ(), Streams{In: program, Out: &bytes.Buffer{}, Err: stderr})
	}()
	stderr.wait(t, "[y/N]")
	interrupt()
	select {
	case code := <-done:
		if code != ExitFailed {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(patience):
		t.Fatal("it goes on waiting for an answer")
	}
	w.says(0, []string{"door/7/1"}, nil, "dlq", "list")
}
