package rtsp_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/camera/cameratest"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/rtsp"
)

func TestCameraKilledAndRestarted(t *testing.T) {
	t.Parallel()
	cam := cameratest.Start(t, camera.Config{Footage: footage(t, "h264"), User: "u", Password: secret})
	v := watch(t, rtsp.Config{URL: cam.URL()}, nil)
	v.awaitPictures(5)
	cam.Kill()
	v.awaitState(ingest.PhaseDown, ingest.CauseRefused) // closed comes first, then refused while it is away
	if err := cam.Restart(); err != nil {
		t.Fatal(err)
	}
	v.awaitState(ingest.PhaseLive, "")
	v.awaitPictures(5)
}

func TestCameraStallsWhileRTSPLives(t *testing.T) {
	t.Parallel()
	for _, transport := range []rtsp.Transport{rtsp.Auto, rtsp.TCP} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			cam := cameratest.Start(t, camera.Config{Footage: footage(t, "h264")})
			v := watch(t, rtsp.Config{
				URL: cam.URL(), Transport: transport, MediaTimeout: 500 * time.Millisecond,
			}, func(c *ingest.SessionConfig) { c.StallTimeout = 700 * time.Millisecond })
			v.awaitPictures(5)
			cam.Stall()
			stalled := time.Now()
			state := v.awaitState(ingest.PhaseDown, ingest.CauseStalled)
			if d := state.At.Sub(stalled); d < 600*time.Millisecond || d > 3*time.Second {
				t.Errorf("seen after %s, want about 0.7s", d)
			}
			v.await("a second attempt", func() bool { return v.session.Stats().Reconnects[ingest.CauseStalled] >= 1 })
			cam.Resume()
			v.awaitState(ingest.PhaseLive, "")
			v.awaitPictures(5)
		})
	}
}

func TestWrongPathIsTriedAgain(t *testing.T) {
	t.Parallel()
	cam := cameratest.Start(t, camera.Config{Footage: footage(t, "h264")})
	v := watch(t, rtsp.Config{URL: cam.URL() + "2"}, nil)
	v.awaitState(ingest.PhaseDown, ingest.CauseNotFound)
	v.await("more attempts", func() bool { return v.session.Stats().Reconnects[ingest.CauseNotFound] >= 3 })
}

// TestLoss: the session keeps going, and hands on no picture that differs from what the camera coded.
func TestLoss(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		codec     string
		transport rtsp.Transport
	}{{"h264", rtsp.TCP}, {"h264", rtsp.UDP}, {"h265", rtsp.TCP}, {"mjpeg", rtsp.TCP}, {"mjpeg", rtsp.UDP}} {
		t.Run(test.codec+" over "+string(test.transport), func(t *testing.T) {
			t.Parallel()
			clip := footage(t, test.codec)
			good := prints(t, clip)
			cam := cameratest.Start(t, camera.Config{Footage: clip, Faults: camera.Faults{Drop: 0.05}, Seed: 7})
			foreign := 0
			v := watch(t, rtsp.Config{URL: cam.URL(), Transport: test.transport}, func(c *ingest.SessionConfig) {
				c.StallTimeout = 10 * time.Second // over UDP the library holds packets back
				note := c.OnPicture
				c.OnPicture = func(p ingest.Picture) {
					note(p)
					if !good[fingerprint(t, p)] {
						foreign++
					}
				}
			})
			v.await("damage", func() bool { return v.pictures >= 50 && v.session.Stats().Source.PacketsLost >= 3 })
			v.stop()
			st := v.session.Stats()
			if len(st.Reconnects) != 0 || foreign != 0 || st.Damaged+st.DecodeErrors != 0 {
				t.Errorf("%d damaged pictures were handed on; stats are %+v", foreign, st)
			}
			if test.codec != "mjpeg" && st.Skipped == 0 {
				t.Errorf("nothing was skipped: %+v", st)
			}
		})
	}
}

// TestCorruption: the session keeps going. Not all turned bits can be seen; those that are seen cost a resync.
func TestCorruption(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"h264", "h265", "mjpeg"} {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			cam := cameratest.Start(t, camera.Config{
				Footage: footage(t, codec), Faults: camera.Faults{Drop: 0.05, Corrupt: 0.05}, Seed: 7,
			})
			v := watch(t, rtsp.Config{URL: cam.URL(), Transport: rtsp.TCP}, nil)
			v.await("damage", func() bool {
				sent := cam.Stats()
				return v.pictures >= 50 && sent.Corrupted >= 3 && sent.Dropped >= 3
			})
			v.stop()
			if st := v.session.Stats(); len(st.Reconnects) != 0 || st.Resyncs+st.Source.UnitsDropped == 0 {
				t.Errorf("stats are %+v", st)
			}
		})
	}
}

func TestResolutionChangesInMidStream(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"h264", "h265", "mjpeg"} {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			small := footage(t, codec)
			large := cameratest.Footage(t, cameratest.Clip{Codec: codec, Width: 640, Height: 480})
			cam := cameratest.Start(t, camera.Config{Footage: small})
			v := watch(t, rtsp.Config{URL: cam.URL(), Transport: rtsp.TCP}, nil)
			for _, round := range []struct {
				clip  *camera.Footage
				width int
			}{{small, 320}, {large, 640}, {small, 320}} {
				if err := cam.Switch(round.clip); err != nil {
					t.Fatal(err)
				}
				v.await("picture of the new size", func() bool { return v.width == round.width })
				v.awaitPictures(3)
			}
			if st := v.session.Stats(); len(st.Reconnects) != 0 || st.DecodeErrors+st.Damaged != 0 {
				t.Errorf("stats are %+v", st)
			}
		})
	}
}

// TestBadCamerasDoNotDelayAGoodOne: one is stalled, one drops half its packets, one is not there, one has a consumer
// that hangs.
func TestBadCamerasDoNotDelayAGoodOne(t *testing.T) {
	t.Parallel()
	clip := footage(t, "h264")
	good := watch(t, rtsp.Config{URL: cameratest.Start(t, camera.Config{Footage: clip}).URL()}, nil)
	good.awaitPictures(3)
	good.mu.Lock()
	good.gap = 0
	good.mu.Unlock()

	stalled := cameratest.Start(t, camera.Config{Footage: clip})
	stalled.Stall()
	watch(t, rtsp.Config{URL: stalled.URL(), MediaTimeout: 300 * time.Millisecond}, nil)
	watch(t, rtsp.Config{URL: cameratest.Start(t, camera.Config{Footage: clip, Faults: camera.Faults{Drop: 0.5}}).URL()}, nil)
	watch(t, rtsp.Config{URL: "rtsp://127.0.0.1:1/x"}, nil)
	hang := make(chan struct{})
	watch(t, rtsp.Config{URL: cameratest.Start(t, camera.Config{Footage: clip}).URL()}, func(c *ingest.SessionConfig) {
		c.OnPicture = func(ingest.Picture) { <-hang }
	})
	t.Cleanup(func() { close(hang) })

	good.awaitPictures(75)
	good.mu.Lock()
	defer good.mu.Unlock()
	if good.gap > 2*time.Second { // 40 ms on an idle machine
		t.Errorf("a gap of %s between two pictures", good.gap)
	}
}

// TestReconnectsLeaveNothingBehind is not parallel: it counts goroutines and memory of the process.
func TestReconnectsLeaveNothingBehind(t *testing.T) {
	cam := cameratest.Start(t, camera.Config{Footage: brisk(t)})
	v := watch(t, rtsp.Config{URL: cam.URL()}, func(c *ingest.SessionConfig) {
		c.BackoffMin, c.BackoffMax = time.Millisecond, time.Millisecond
	})
	kick := func(n int) {
		for range n {
			v.awaitPictures(1)
			reconnects := v.session.Stats().Reconnects[ingest.CauseClosed]
			cam.Kick()
			v.await("reconnect", func() bool { return v.session.Stats().Reconnects[ingest.CauseClosed] > reconnects })
		}
		v.awaitPictures(1)
	}
	kick(20)
	runtime.GC()
	goroutines, memory := runtime.NumGoroutine(), residentKiB(t)
	kick(100)
	runtime.GC()
	if now := runtime.NumGoroutine(); now > goroutines+8 {
		t.Errorf("%d goroutines became %d", goroutines, now)
	}
	if grown := residentKiB(t) - memory; grown > 24<<10 {
		t.Errorf("grew by %d KiB", grown)
	}
}

// residentKiB is the resident memory of this process, C allocations included.
func residentKiB(tb testing.TB) int {
	tb.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize() / 1024
}

// TestWhatACameraSaysOfItself: its frame rate, from its parameter sets, and its time of day, from its sender reports.
func TestWhatACameraSaysOfItself(t *testing.T) {
	t.Parallel() // it waits for ten seconds
	for _, transport := range []rtsp.Transport{rtsp.TCP, rtsp.UDP} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			cam := cameratest.Start(t, camera.Config{Footage: footage(t, "h264"), Faults: camera.Faults{ClockOffset: -time.Hour}})
			v := watch(t, rtsp.Config{URL: cam.URL(), Transport: transport}, nil)
			v.await("a sender report", func() bool { return !v.session.Stats().Source.Report.NTP.IsZero() })
			s := v.session.Stats().Source
			if off := s.Report.NTP.Sub(s.Report.Received); off < -time.Hour-time.Minute || off > -time.Hour+time.Minute {
				t.Errorf("its clock is off by %v", off)
			}
			if s.AnnouncedFPS != 25 {
				t.Errorf("it announces %v pictures a second", s.AnnouncedFPS)
			}
			v.stop()
		})
	}
}
