package camera_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/bluenviron/gortsplib/v4/pkg/base"
	"github.com/bluenviron/gortsplib/v4/pkg/description"
	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/bluenviron/gortsplib/v4/pkg/liberrors"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"go.uber.org/goleak"

	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/camera/cameratest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event; it is long because the machine may be busy.
const patience = 20 * time.Second

// look plays url over TCP and sends its RTP packets until the test ends or the returned client is closed.
func look(t *testing.T, url string) (packets chan *rtp.Packet, reports chan *rtcp.SenderReport, client *gortsplib.Client) {
	t.Helper()
	u, err := base.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	tcp := gortsplib.TransportTCP
	client = &gortsplib.Client{
		Scheme: u.Scheme, Host: u.Host, Transport: &tcp,
		OnPacketsLost: func(uint64) {}, OnDecodeError: func(error) {},
	}
	if err := client.Start2(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	desc, _, err := client.Describe(u)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SetupAll(desc.BaseURL, desc.Medias); err != nil {
		t.Fatal(err)
	}
	packets, reports = make(chan *rtp.Packet, 10_000), make(chan *rtcp.SenderReport, 100)
	client.OnPacketRTPAny(func(_ *description.Media, _ format.Format, p *rtp.Packet) { packets <- p })
	client.OnPacketRTCPAny(func(_ *description.Media, p rtcp.Packet) {
		if sr, ok := p.(*rtcp.SenderReport); ok {
			reports <- sr
		}
	})
	if _, err := client.Play(nil); err != nil {
		t.Fatal(err)
	}
	return packets, reports, client
}

func next(t *testing.T, packets chan *rtp.Packet) *rtp.Packet {
	t.Helper()
	select {
	case p := <-packets:
		return p
	case <-time.After(patience):
		t.Fatal("no packet")
		return nil
	}
}

// TestClockGrowsThroughLoopsAndSwitches plays a clip of 0.4 s for three rounds, and switches in the middle of one.
func TestClockGrowsThroughLoopsAndSwitches(t *testing.T) {
	clip, err := camera.Load(cameratest.File(t, cameratest.Clip{Codec: "mjpeg", Seconds: 1}), 100)
	if err != nil {
		t.Fatal(err)
	}
	large := cameratest.Footage(t, cameratest.Clip{Codec: "mjpeg", Width: 640, Height: 480})
	cam := cameratest.Start(t, camera.Config{Footage: clip})
	packets, _, _ := look(t, cam.URL())
	began := time.Now()
	first := next(t, packets)
	last, pictures := first, 1
	read := func(until func(*rtp.Packet) bool) {
		for {
			p := next(t, packets)
			if p.SequenceNumber != last.SequenceNumber+1 {
				t.Fatalf("packet %d after %d", p.SequenceNumber, last.SequenceNumber)
			}
			if step := int32(p.Timestamp - last.Timestamp); step != 0 {
				pictures++
				if step < 0 || step > 9000 {
					t.Fatalf("the clock moved by %d", step)
				}
			}
			last = p
			if until(p) {
				return
			}
		}
	}
	read(func(*rtp.Packet) bool { return pictures >= 3*clip.Units })
	elapsed, ticks := time.Since(began), time.Duration(last.Timestamp-first.Timestamp)*time.Second/90000
	if d := elapsed - ticks; d < -100*time.Millisecond || d > 2*time.Second {
		t.Errorf("%s of footage took %s", ticks, elapsed)
	}
	if err := cam.Switch(large); err != nil {
		t.Fatal(err)
	}
	read(func(p *rtp.Packet) bool { return len(p.Payload) > 8 && p.Payload[6] == 640/8 })
}

func TestSenderReports(t *testing.T) {
	t.Parallel() // it waits for ten seconds
	cam := cameratest.Start(t, camera.Config{Footage: cameratest.Footage(t, cameratest.Clip{Codec: "h264"})})
	_, reports, _ := look(t, cam.URL())
	select {
	case sr := <-reports: // the library sends one every ten seconds
		if sr.PacketCount == 0 || sr.NTPTime == 0 {
			t.Errorf("report is %+v", sr)
		}
	case <-time.After(patience):
		t.Fatal("no sender report")
	}
}

func TestStallAndResume(t *testing.T) {
	cam := cameratest.Start(t, camera.Config{Footage: cameratest.Footage(t, cameratest.Clip{Codec: "h264"})})
	packets, _, _ := look(t, cam.URL())
	next(t, packets)
	cam.Stall()
	for len(packets) > 0 {
		next(t, packets)
	}
	select {
	case <-packets: // one may have been on its way
	case <-time.After(300 * time.Millisecond):
	}
	select {
	case <-packets:
		t.Error("a packet in spite of the stall")
	case <-time.After(300 * time.Millisecond):
	}
	cam.Resume()
	if p := next(t, packets); p.Payload[0]&0x1F != 24 && p.Payload[0]&0x1F != 7 { // STAP-A or SPS: a key frame
		t.Errorf("went on with NAL unit type %d", p.Payload[0]&0x1F)
	}
}

func TestKillAndRestart(t *testing.T) {
	cam := cameratest.Start(t, camera.Config{Footage: cameratest.Footage(t, cameratest.Clip{Codec: "h264"})})
	url := cam.URL()
	for range 3 {
		packets, _, client := look(t, cam.URL())
		next(t, packets)
		if v := cam.Stats().Viewers; v != 1 {
			t.Errorf("%d viewers", v)
		}
		cam.Kill()
		cam.Kill() // nothing more to kill
		if err := client.Wait(); err == nil {
			t.Error("the viewer noticed nothing")
		}
		if err := cam.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := cam.Restart(); err != nil { // it runs already
			t.Fatal(err)
		}
		if cam.URL() != url {
			t.Errorf("moved from %s to %s", url, cam.URL())
		}
	}
}

func TestAccess(t *testing.T) {
	cam := cameratest.Start(t, camera.Config{
		Footage: cameratest.Footage(t, cameratest.Clip{Codec: "h264"}), User: "u", Password: "p@ss",
	})
	for _, test := range []struct {
		name, url string
		want      base.StatusCode
	}{
		{"nobody", strings.Replace(cam.URL(), "u:p%40ss@", "", 1), base.StatusUnauthorized},
		{"wrong", strings.Replace(cam.URL(), "p%40ss", "x", 1), base.StatusUnauthorized},
		{"elsewhere", cam.URL() + "2", base.StatusNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, err := base.ParseURL(test.url)
			if err != nil {
				t.Fatal(err)
			}
			client := &gortsplib.Client{Scheme: u.Scheme, Host: u.Host}
			if err := client.Start2(); err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, _, err = client.Describe(u)
			if e, ok := errors.AsType[liberrors.ErrClientBadStatusCode](err); !ok || e.Code != test.want {
				t.Errorf("error is %v, want status %d", err, test.want)
			}
		})
	}
	packets, _, _ := look(t, cam.URL())
	next(t, packets)
}

func TestConfigIsChecked(t *testing.T) {
	_, err := camera.New(camera.Config{Listen: "nowhere", Auth: "smile", Faults: camera.Faults{Drop: 2}})
	const want = "camera: no footage\nlisten address: address nowhere: missing port in address\n" +
		"auth is \"smile\", want basic or digest\nshare of packets is 2, want 0 to 1"
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	clip := cameratest.Footage(t, cameratest.Clip{Codec: "h264"})
	cam := cameratest.Start(t, camera.Config{Footage: clip})
	if err := cam.Switch(cameratest.Footage(t, cameratest.Clip{Codec: "mjpeg"})); err == nil {
		t.Error("switched to another codec")
	}
	if err := cam.SetFaults(camera.Faults{Corrupt: -1}); err == nil {
		t.Error("took a negative share")
	}
	other, err := camera.New(camera.Config{Footage: clip, Listen: cam.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil {
		t.Error("two cameras on one port")
	}
}

func TestCommand(t *testing.T) {
	path := cameratest.File(t, cameratest.Clip{Codec: "h264"})
	var out syncBuffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		for !strings.Contains(out.String(), "path /x") && ctx.Err() == nil {
			<-time.After(10 * time.Millisecond)
		}
		cancel()
	}()
	env := func(string) string { return "secret" }
	if err := camera.Command(ctx, []string{"--footage", path, "--listen", "127.0.0.1:0", "--path", "x", "--user", "u"}, env, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "camera: h264, 50 pictures in 2s, at 127.0.0.1:") || strings.Contains(got, "secret") {
		t.Errorf("said %q", got)
	}
	for _, args := range [][]string{{}, {"--footage", "/no/such.ts"}, {"--nonsense"}, {"--footage", path, "--drop", "7"}} {
		if err := camera.Command(ctx, args, env, &out); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	if err := camera.Command(ctx, []string{"-h"}, env, &out); err != nil {
		t.Error(err)
	}
}

// syncBuffer is a buffer for two goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mjpeg, err := os.ReadFile(cameratest.File(t, cameratest.Clip{Codec: "mjpeg", Seconds: 1}))
	if err != nil {
		t.Fatal(err)
	}
	optimal, err := os.ReadFile(cameratest.File(t, cameratest.Clip{Codec: "mjpeg", Seconds: 1, Args: "-huffman optimal"}))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"folder/2.jpg", "folder/1.jpeg", "folder/notes.txt"} {
		write(name, mjpeg[:bytes.Index(mjpeg, []byte{0xFF, 0xD9})+2])
	}
	for _, test := range []struct {
		name, path string
		fps        float64
		codec      string
		units      int
		length     time.Duration
		want       string // error
	}{
		{"h264", cameratest.File(t, cameratest.Clip{Codec: "h264"}), 0, "h264", 50, 2 * time.Second, ""},
		{"h264 with B-frames", cameratest.File(t, cameratest.Clip{Codec: "h264", BFrames: 2}), 0, "h264", 50, 2 * time.Second, ""},
		{"h265", cameratest.File(t, cameratest.Clip{Codec: "h265"}), 0, "h265", 50, 2 * time.Second, ""},
		{"mjpeg", write("a.mjpeg", mjpeg), 50, "mjpeg", 25, 500 * time.Millisecond, ""},
		{"folder", folder, 2, "mjpeg", 2, time.Second, ""},
		{"one JPEG", filepath.Join(folder, "2.jpg"), 5, "mjpeg", 1, 200 * time.Millisecond, ""},
		{"no fps", write("b.mjpeg", mjpeg), 0, "", 0, 0, "fps is 0, want more than 0 and at most 240"},
		{"cut short", write("c.jpg", mjpeg[:2000]), 5, "", 0, 0, "picture 1: JPEG is cut short"},
		{"no JPEG", write("d.jpg", []byte("hello")), 5, "", 0, 0, "picture 1: not a JPEG: no start of image"},
		{"optimal tables", write("e.mjpeg", optimal), 5, "", 0, 0, "picture 1: its Huffman tables are optimised"},
		{"empty", write("f.jpg", nil), 5, "", 0, 0, "no pictures in it"},
		{"empty TS", write("g.ts", nil), 5, "", 0, 0, "EOF"},
		{"other", write("h.avi", nil), 5, "", 0, 0, `do not know ".avi"`},
		{"nothing", filepath.Join(dir, "i.ts"), 5, "", 0, 0, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := camera.Load(test.path, test.fps)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error is %v, want %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f.Codec != test.codec || f.Units != test.units || (f.Length-test.length).Abs() > time.Millisecond {
				t.Errorf("%d pictures of %s in %s, want %d of %s in %s", f.Units, f.Codec, f.Length, test.units, test.codec, test.length)
			}
			n := 0
			for p := range f.Pictures() {
				if n == 0 && !p.Key || len(p.Data) == 0 {
					t.Errorf("picture %d: key %t, %d bytes", n, p.Key, len(p.Data))
				}
				n++
			}
			if n != test.units {
				t.Errorf("iterated over %d pictures", n)
			}
		})
	}
}

// TestAFrozenCameraShowsOnePicture: from the request on every picture is the same one, with timestamps that go on, and afterwards
// pictures go on at a key frame.
func TestAFrozenCameraShowsOnePicture(t *testing.T) {
	clip, err := camera.Load(cameratest.File(t, cameratest.Clip{Codec: "mjpeg", Seconds: 1}), 50)
	if err != nil {
		t.Fatal(err)
	}
	cam := cameratest.Start(t, camera.Config{Footage: clip})
	packets, _, _ := look(t, cam.URL())
	// pictures returns the payloads of the next n whole pictures, and how far the clock went.
	pictures := func(n int) (all map[string]bool, ticks uint32) {
		all = map[string]bool{}
		for !next(t, packets).Marker {
			continue
		}
		var first uint32
		for i := range n {
			var picture []byte
			for done := false; !done; {
				p := next(t, packets)
				picture, done, ticks = append(picture, p.Payload...), p.Marker, p.Timestamp
			}
			if i == 0 {
				first = ticks
			}
			all[string(picture)] = true
		}
		return all, ticks - first
	}
	if all, _ := pictures(10); len(all) < 8 {
		t.Fatalf("%d different pictures of 10", len(all))
	}
	set := func(f camera.Faults) {
		t.Helper()
		if err := cam.SetFaults(f); err != nil {
			t.Fatal(err)
		}
		for len(packets) > 0 {
			next(t, packets)
		}
	}
	set(camera.Faults{Frozen: true})
	pictures(3) // what was on its way
	if all, ticks := pictures(10); len(all) != 1 || ticks != 9*90000/50 {
		t.Errorf("%d different pictures while it is frozen, %d ticks", len(all), ticks)
	}
	set(camera.Faults{})
	pictures(3)
	if all, _ := pictures(10); len(all) < 8 {
		t.Errorf("%d different pictures of 10 afterwards", len(all))
	}
}

// TestPaceAndClock: pace changes how often pictures come, and their timestamps with it; a clock that is wrong changes the timestamps
// alone.
func TestPaceAndClock(t *testing.T) {
	clip, err := camera.Load(cameratest.File(t, cameratest.Clip{Codec: "mjpeg", Seconds: 1}), 50)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		faults camera.Faults
		ticks  uint32 // from picture to picture
	}{
		{camera.Faults{}, 1800},
		{camera.Faults{Pace: 0.5}, 3600},
		{camera.Faults{ClockRate: 1.5}, 2700},
		{camera.Faults{Pace: 2, ClockRate: 0.5}, 450},
	} {
		cam := cameratest.Start(t, camera.Config{Footage: clip, Faults: c.faults})
		packets, _, client := look(t, cam.URL())
		last := next(t, packets).Timestamp
		for n := 0; n < 70; { // more than a loop
			p := next(t, packets)
			if step := p.Timestamp - last; step != 0 {
				n++
				if step < c.ticks-1 || step > c.ticks+1 {
					t.Errorf("%+v: the clock moved by %d, want %d", c.faults, step, c.ticks)
				}
			}
			last = p.Timestamp
		}
		client.Close()
	}
}

func TestClockOffset(t *testing.T) {
	t.Parallel() // it waits for ten seconds
	cam := cameratest.Start(t, camera.Config{
		Footage: cameratest.Footage(t, cameratest.Clip{Codec: "h264"}), Faults: camera.Faults{ClockOffset: -time.Hour},
	})
	_, reports, _ := look(t, cam.URL())
	select {
	case sr := <-reports:
		const ntp = 2208988800 // 1900 in seconds before 1970
		if off := time.Until(time.Unix(int64(sr.NTPTime>>32)-ntp, 0)); off < -time.Hour-time.Minute || off > -time.Hour+time.Minute {
			t.Errorf("the clock is off by %v", off)
		}
	case <-time.After(patience):
		t.Fatal("no sender report")
	}
}

func TestLooksAreMadeOnce(t *testing.T) {
	source := cameratest.File(t, cameratest.Clip{Codec: "h264", Seconds: 1, FPS: 10})
	dir := t.TempDir()
	for _, name := range []string{"rotated", "jpeg_crushed"} {
		l, err := camera.FindLook(name)
		if err != nil {
			t.Fatal(err)
		}
		path, err := l.Prepare(t.Context(), source, dir)
		if err != nil {
			t.Fatal(err)
		}
		f, err := camera.Load(path, 0)
		if err != nil || f.Codec != "h264" || f.Units < 8 {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := l.Prepare(t.Context(), source, dir)
		if after, _ := os.Stat(again); err != nil || again != path || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("%s was made again: %s, %v", name, again, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.part*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := camera.FindLook("tired"); err == nil || !strings.Contains(err.Error(), "want one of clean, black") {
		t.Errorf("%v", err)
	}
}
