package rtsp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/camera/cameratest"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/ffmpeg"
	"github.com/sightline-dev/sightline/services/ingest/rtsp"
)

func TestEveryCodecOverEveryTransport(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"h264", "h265", "mjpeg"} {
		cam := cameratest.Start(t, camera.Config{Footage: footage(t, codec)})
		for _, transport := range []rtsp.Transport{rtsp.UDP, rtsp.TCP, rtsp.Auto} {
			t.Run(codec+" over "+string(transport), func(t *testing.T) {
				t.Parallel()
				src := newSource(t, rtsp.Config{URL: cam.URL(), Transport: transport})
				units, err := play(t, src, atLeast(30))
				if ingest.CauseOf(err) != ingest.CauseCanceled || len(units) < 30 {
					t.Fatalf("%d units, error %v", len(units), err)
				}
				checkUnits(t, ingest.Codec(codec), units)
				want := "tcp"
				if transport == rtsp.UDP {
					want = "udp"
				}
				if st := src.SourceStats(); st.Transport != want || st.PacketsLost+st.UnitsDropped+st.PayloadErrors+st.TransportFalls != 0 {
					t.Errorf("source stats are %+v", st)
				}
			})
		}
	}
}

// checkUnits wants a whole stream that decodes from the first key frame on.
func checkUnits(t *testing.T, codec ingest.Codec, units []ingest.AccessUnit) {
	t.Helper()
	d, err := ffmpeg.New(codec)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	started := false
	for i, au := range units {
		if au.Codec != codec || au.AfterLoss || au.Received.IsZero() {
			t.Fatalf("unit %d is %s, after loss %t, received %s", i, au.Codec, au.AfterLoss, au.Received)
		}
		if i > 0 {
			if step := au.PTS - units[i-1].PTS; step < 39*time.Millisecond || step > 41*time.Millisecond {
				t.Errorf("unit %d comes %s after the one before, want 40ms", i, step)
			}
		}
		started = started || au.Key
		if !started {
			continue
		}
		if pic, err := d.Decode(au); err != nil || pic == nil {
			t.Fatalf("unit %d: %v", i, err)
		}
	}
	if !started {
		t.Error("no key frame")
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	clip := footage(t, "h264")
	for _, method := range []camera.Auth{camera.Basic, camera.Digest} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			cam := cameratest.Start(t, camera.Config{Footage: clip, User: "us er", Password: secret, Auth: method})
			if units, err := play(t, newSource(t, rtsp.Config{URL: cam.URL(), Transport: rtsp.TCP}), atLeast(2)); len(units) < 2 {
				t.Errorf("right password: %v", err)
			}
			for name, user := range map[string]*url.Userinfo{
				"wrong password": url.UserPassword("us er", secret+"x"), "wrong user": url.UserPassword("x", secret), "nobody": nil,
			} {
				u, _ := url.Parse(cam.URL())
				u.User = user
				_, err := play(t, newSource(t, rtsp.Config{URL: u.String()}), atLeast(1))
				if ingest.CauseOf(err) != ingest.CauseAuth {
					t.Errorf("%s: error is %v, want cause auth", name, err)
				}
			}
		})
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	cam := cameratest.Start(t, camera.Config{Footage: footage(t, "h264")})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	web := httptest.NewServer(nil)
	t.Cleanup(web.Close)
	silent := silence(t)
	for _, test := range []struct {
		name, url, want string
	}{
		{"closed port", "rtsp://u:" + url.QueryEscape(secret) + "@" + closed.Addr().String() + "/cam", "refused"},
		{"wrong path", strings.Replace(cam.URL(), "/cam", "/other", 1), "not_found"},
		{"silence", "rtsp://" + silent + "/cam", "timeout"},
		{"silence instead of TLS", "rtsps://" + silent + "/cam", "timeout"},
		{"no TLS", "rtsps://" + web.Listener.Addr().String() + "/cam", "tls"},
		{"nonsense", "rtsp://" + nonsense(t) + "/cam", "protocol"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, rtsp.Config{URL: test.url, ConnectTimeout: 500 * time.Millisecond})
			_, err := play(t, src, atLeast(1))
			if got := string(ingest.CauseOf(err)); got != test.want {
				t.Errorf("error is %v, cause %q, want %q", err, got, test.want)
			}
		})
	}
}

// silence accepts connections and never says a word.
func silence(t *testing.T) string {
	t.Helper()
	return serve(t, func(net.Conn) {})
}

// nonsense says OK to everything, without saying what.
func nonsense(t *testing.T) string {
	t.Helper()
	return serve(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		for n := 1; ; n++ {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := fmt.Fprintf(c, "RTSP/1.0 200 OK\r\nCSeq: %d\r\n\r\n", n); err != nil {
				return
			}
		}
	})
}

// serve listens until the test ends, and closes connections only then.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			all.Go(func() { handle(c) })
		}
	})
	t.Cleanup(func() { t.Cleanup(all.Wait); _ = l.Close() })
	return l.Addr().String()
}

// TestCancelIsPrompt ends sources that wait for something that never comes.
func TestCancelIsPrompt(t *testing.T) {
	addr := silence(t)
	for _, u := range []string{"rtsp://" + addr + "/x", "rtsps://" + addr + "/x"} {
		src := newSource(t, rtsp.Config{URL: u, ConnectTimeout: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		err := src.Run(ctx, func(ingest.AccessUnit) {})
		cancel()
		if d := time.Since(began); d > 3*time.Second || ingest.CauseOf(err) != ingest.CauseCanceled {
			t.Errorf("%s: ended after %s with %v", u, d, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	// httptest has a self-signed certificate for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	ours := x509.NewCertPool()
	ours.AddCert(web.Certificate())
	cam := cameratest.Start(t, camera.Config{
		Footage: footage(t, "h264"), User: "u", Password: secret,
		TLS: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12},
	})
	for _, test := range []struct {
		name      string
		transport rtsp.Transport
		tls       *tls.Config
		want      ingest.Cause // canceled is success
	}{
		{"own authority over TCP", rtsp.TCP, &tls.Config{RootCAs: ours}, ingest.CauseCanceled},
		{"own authority over UDP", rtsp.UDP, &tls.Config{RootCAs: ours}, ingest.CauseCanceled},
		{"unchecked", rtsp.Auto, &tls.Config{InsecureSkipVerify: true}, ingest.CauseCanceled},
		{"unknown authority", rtsp.Auto, nil, ingest.CauseTLS},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			src := newSource(t, rtsp.Config{URL: cam.URL(), Transport: test.transport, TLS: test.tls})
			units, err := play(t, src, atLeast(12))
			if ingest.CauseOf(err) != test.want || (test.want == ingest.CauseCanceled) != (len(units) >= 12) {
				t.Errorf("%d units, error %v, want cause %s", len(units), err, test.want)
			}
		})
	}
}

func TestAutoFallsBackToUDPAndRemembers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		cfg  camera.Config
	}{
		{"TCP refused", camera.Config{NoTCP: true}},
		{"TCP brings nothing", camera.Config{Faults: camera.Faults{BlockTCP: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := test.cfg
			cfg.Footage = footage(t, "h264")
			cam := cameratest.Start(t, cfg)
			src := newSource(t, rtsp.Config{URL: cam.URL(), MediaTimeout: time.Second})
			for round := range 2 {
				units, err := play(t, src, atLeast(2))
				if st := src.SourceStats(); len(units) < 2 || st.Transport != "udp" || st.TransportFalls != 1 {
					t.Fatalf("round %d: %d units, %v, source stats %+v", round, len(units), err, st)
				}
			}
			if _, err := play(t, newSource(t, rtsp.Config{URL: cam.URL(), Transport: rtsp.TCP, MediaTimeout: 300 * time.Millisecond}), atLeast(1)); err == nil ||
				ingest.CauseOf(err) == ingest.CauseCanceled {
				t.Errorf("TCP alone: error is %v", err)
			}
		})
	}
}

func TestUDPRefusedIsAnError(t *testing.T) {
	t.Parallel()
	cam := cameratest.Start(t, camera.Config{Footage: footage(t, "h264"), NoUDP: true})
	if _, err := play(t, newSource(t, rtsp.Config{URL: cam.URL(), Transport: rtsp.UDP}), atLeast(1)); ingest.CauseOf(err) != ingest.CauseProtocol {
		t.Errorf("error is %v", err)
	}
}

func TestConnectedWithoutMediaIsStalled(t *testing.T) {
	cam := cameratest.Start(t, camera.Config{Footage: brisk(t)})
	cam.Stall()
	src := newSource(t, rtsp.Config{URL: cam.URL(), MediaTimeout: 300 * time.Millisecond})
	_, err := play(t, src, atLeast(1))
	if ingest.CauseOf(err) != ingest.CauseStalled || err.Error() != "connected, but no complete picture arrived" {
		t.Errorf("error is %v, cause %s", err, ingest.CauseOf(err))
	}
	if st := src.SourceStats(); st.TransportFalls != 1 {
		t.Errorf("source stats are %+v", st)
	}
	cam.Resume() // and TCP is tried first again, since UDP was no better
	units, err := play(t, src, atLeast(1))
	if st := src.SourceStats(); len(units) < 1 || st.Transport != "tcp" {
		t.Errorf("error is %v, source stats are %+v", err, st)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  rtsp.Config
		want string
	}{
		{"no URL", rtsp.Config{}, "camera URL is not valid"},
		{"web URL", rtsp.Config{URL: "http://u:" + secret + "@cam/"}, "camera URL is not valid"},
		{"raw password", rtsp.Config{URL: "rtsp://u:" + secret + "@cam/"}, "camera URL is not valid"},
		{"bad escape", rtsp.Config{URL: "rtsp://u:%zz-hunter22@cam/"}, "camera URL is not valid"},
		{"bad port", rtsp.Config{URL: "rtsp://u:hunter22/x@cam/"}, "camera URL is not valid"},
		{"transport", rtsp.Config{URL: "rtsp://cam/", Transport: "pigeon"}, `transport is "pigeon", want auto, udp or tcp`},
		{"times", rtsp.Config{URL: "rtsp://cam/", MediaTimeout: -1}, "timeouts must not be negative"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := rtsp.New(test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) || ingest.CauseOf(err) != ingest.CauseConfig {
				t.Fatalf("error is %v, want %s", err, test.want)
			}
			for _, leak := range []string{secret, "hunter22", "zz"} {
				if strings.Contains(err.Error(), leak) {
					t.Errorf("the password is in %q", err)
				}
			}
		})
	}
}

func TestKeyFramesCarryParameterSets(t *testing.T) {
	for _, codec := range []string{"h264", "h265"} {
		cam := cameratest.Start(t, camera.Config{Footage: footage(t, codec)})
		units, err := play(t, newSource(t, rtsp.Config{URL: cam.URL(), Transport: rtsp.TCP}), func(u []ingest.AccessUnit) bool {
			return u[len(u)-1].Key
		})
		first := slices.IndexFunc(units, func(u ingest.AccessUnit) bool { return u.Key })
		if first < 0 {
			t.Fatal(err)
		}
		want := map[string][]byte{"h264": {0, 0, 0, 1, 0x67}, "h265": {0, 0, 0, 1, 0x40}}[codec]
		if key := units[first]; !bytes.HasPrefix(key.Data, want) {
			t.Errorf("%s key frame begins with % x", codec, key.Data[:8])
		}
	}
}
