// Package cameratest makes footage and cameras for tests. It needs the ffmpeg command, and fails without.
//
// Footage is made once and kept under the system's folder for temporary files, named after how it was made.
package cameratest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/services/camera"
)

// Clip says what footage to make: a moving test picture.
type Clip struct {
	Codec         string // "h264", "h265" or "mjpeg"
	Width, Height int    // default 320x240
	FPS           int    // default 25
	GOP           int    // pictures from key frame to key frame; default 10
	Seconds       int    // default 2
	BFrames       int
	Filter        string // ffmpeg's lavfi source; default testsrc of that size and rate
	Args          string // more output options, such as "-colorspace bt709"
}

func (c Clip) withDefaults() Clip {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.Width, 320}, {&c.Height, 240}, {&c.FPS, 25}, {&c.GOP, 10}, {&c.Seconds, 2}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Filter == "" {
		c.Filter = fmt.Sprintf("testsrc=s=%dx%d:r=%d", c.Width, c.Height, c.FPS)
	}
	return c
}

func (c Clip) args() (args []string, ext string) {
	args = []string{"-v", "error", "-f", "lavfi", "-t", strconv.Itoa(c.Seconds), "-i", c.Filter, "-threads", "1"}
	gop, bframes := strconv.Itoa(c.GOP), strconv.Itoa(c.BFrames)
	switch c.Codec {
	case "h264":
		args = append(args, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-g", gop,
			"-keyint_min", gop, "-sc_threshold", "0", "-bf", bframes)
	case "h265":
		args = append(args, "-pix_fmt", "yuv420p", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
			"log-level=none:pools=1:frame-threads=1:scenecut=0:keyint="+gop+":min-keyint="+gop+":bframes="+bframes)
	default:
		args = append(args, "-pix_fmt", "yuvj420p", "-c:v", "mjpeg", "-q:v", "5", "-huffman", "default")
		ext = ".mjpeg"
	}
	if ext == "" {
		ext = ".ts"
	}
	return append(args, strings.Fields(c.Args)...), ext
}

// File makes the clip, or finds it, and returns its path.
func File(tb testing.TB, c Clip) string {
	tb.Helper()
	c = c.withDefaults()
	args, ext := c.args()
	sum := sha256.Sum256(fmt.Appendf(nil, "1 %q", args))
	dir := filepath.Join(os.TempDir(), "sightline-footage")
	path := filepath.Join(dir, hex.EncodeToString(sum[:8])+ext)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		tb.Fatal(err)
	}
	part, err := os.CreateTemp(dir, "*"+ext)
	if err != nil {
		tb.Fatal(err)
	}
	_ = part.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ffmpeg", append(args, "-y", part.Name())...).CombinedOutput()
	if err != nil {
		_ = os.Remove(part.Name())
		tb.Fatalf("make footage with ffmpeg: %v\n%s", err, out)
	}
	if err := os.Rename(part.Name(), path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Footage makes the clip and loads it.
func Footage(tb testing.TB, c Clip) *camera.Footage {
	tb.Helper()
	f, err := camera.Load(File(tb, c), float64(c.withDefaults().FPS))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// Start runs a camera until the test ends.
func Start(tb testing.TB, cfg camera.Config) *camera.Server {
	tb.Helper()
	s, err := camera.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("camera: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- err
		tb.Fatalf("camera: %v", err)
	}
	return s
}
