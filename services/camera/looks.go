package camera

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Look is something that befalls a camera's picture: footage filtered as a fault, the weather or the world would.
type Look struct {
	Name string
	// What is it like, for people.
	What string
	// filter is FFmpeg's filter graph.
	filter string
	// crush codes every picture as a JPEG of the worst quality in between.
	crush bool
	// Turned says how the picture is turned: a point of the clean picture is found at Turned of its coordinates.
	Turned Turn
}

// Turn says along which axes a picture is mirrored.
type Turn struct{ Across, Down bool }

// lookLength bounds how much of the footage is filtered.
const lookLength = 40 * time.Second

// shade is a filter that maps luma linearly, in video range.
func shade(gain string, from, to string) string {
	return "lutyuv=y=clip((val-" + from + ")*" + gain + "+" + to + "\\,16\\,235)"
}

// looks are all looks.
func looks() []Look {
	return []Look{
		{Name: "clean", What: "as it is", filter: "null"},
		{Name: "black", What: "no light, some noise", filter: shade("0.02", "16", "16") + ":u=128:v=128,noise=alls=3:allf=t"},
		{Name: "covered", What: "something before the lens", filter: "gblur=sigma=60," + shade("0.3", "16", "16")},
		{Name: "defocused", What: "the lens is out of focus", filter: "gblur=sigma=6"},
		{Name: "rotated", What: "upside down", filter: "hflip,vflip", Turned: Turn{Across: true, Down: true}},
		{Name: "flipped", What: "mirrored", filter: "hflip", Turned: Turn{Across: true}},
		{Name: "shifted", What: "it looks elsewhere", filter: "scroll=hpos=0.25:vpos=0.1"},
		{Name: "darkened", What: "a third of the light", filter: shade("0.3", "16", "16")},
		{Name: "over_exposed", What: "more than twice the light", filter: shade("2.2", "16", "16")},
		{Name: "low_contrast", What: "a third of the contrast", filter: shade("0.3", "126", "126")},
		{Name: "fogged", What: "mist: bright, pale, soft", filter: "gblur=sigma=1," + shade("0.35", "16", "140") + ":u=(val-128)*0.4+128:v=(val-128)*0.4+128"},
		{Name: "blurred", What: "a dirty lens, or shaking", filter: "gblur=sigma=3"},
		{Name: "noisy", What: "a sensor at its limit", filter: "noise=alls=50:allf=t"},
		{Name: "jpeg_crushed", What: "coded far too small", filter: "null", crush: true},
		{Name: "colour_shifted", What: "red and blue exchanged", filter: "shuffleplanes=0:2:1"},
		{
			Name: "empty", What: "nobody there",
			filter: "fps=2,tmedian=radius=39,trim=start_frame=39:end_frame=40,loop=loop=-1:size=1,setpts=N/(10*TB),fps=10,noise=alls=8:allf=t,trim=duration=40",
		},
		{
			Name: "crowd", What: "five times as many people",
			filter: "split=5[a][b][c][d][e];[b]trim=start=7,setpts=PTS-STARTPTS[b1];[c]trim=start=14,setpts=PTS-STARTPTS[c1];" +
				"[d]trim=start=21,setpts=PTS-STARTPTS[d1];[e]trim=start=28,setpts=PTS-STARTPTS[e1];[a][b1]blend=all_mode=darken:shortest=1[x];" +
				"[x][c1]blend=all_mode=darken:shortest=1[y];[y][d1]blend=all_mode=darken:shortest=1[z];[z][e1]blend=all_mode=darken:shortest=1",
		},
	}
}

// Looks are the names of all looks.
func Looks() []string {
	all := looks()
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = l.Name
	}
	return names
}

// FindLook is a look by its name.
func FindLook(name string) (Look, error) {
	for _, l := range looks() {
		if l.Name == name {
			return l, nil
		}
	}
	return Look{}, fmt.Errorf("camera: no look %q: want one of %s", name, strings.Join(Looks(), ", "))
}

// encode is how the demo's footage is coded, too: no B-frames, a key frame every two seconds.
var encode = []string{
	"-an", "-c:v", "libx264", "-threads", "1", "-preset", "veryfast", "-profile:v", "main", "-pix_fmt", "yuv420p",
	"-bf", "0", "-g", "20", "-r", "10", "-b:v", "2M", "-maxrate", "2M", "-bufsize", "2M", "-f", "mpegts",
}

// Prepare makes footage of that look from a file, once, and returns where it is. It needs the ffmpeg command.
func (l Look) Prepare(ctx context.Context, source, dir string) (string, error) {
	info, err := os.Stat(source)
	if err != nil {
		return "", fmt.Errorf("camera: look %s: %w", l.Name, err)
	}
	in := append([]string{"-nostdin", "-y", "-loglevel", "error", "-i", source, "-t", fmt.Sprint(lookLength.Seconds())}, l.args()...)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %t %d %d", in, encode, l.crush, info.Size(), info.ModTime().UnixNano()))
	path := filepath.Join(dir, l.Name+"-"+hex.EncodeToString(sum[:6])+".ts")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("camera: look %s: %w", l.Name, err)
	}
	part, err := os.CreateTemp(dir, l.Name+"-*.part")
	if err != nil {
		return "", fmt.Errorf("camera: look %s: %w", l.Name, err)
	}
	_ = part.Close()
	if err = l.make(ctx, in, part.Name()); err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		_ = os.Remove(part.Name())
		return "", fmt.Errorf("camera: look %s: %w", l.Name, err)
	}
	return path, nil
}

func (l Look) args() []string {
	if strings.Contains(l.filter, ";") {
		return []string{"-filter_complex", l.filter}
	}
	return []string{"-vf", l.filter}
}

func (l Look) make(ctx context.Context, in []string, to string) error {
	if !l.crush {
		return ffmpeg(ctx, nil, slices.Concat(in, encode, []string{to})...)
	}
	var crushed bytes.Buffer // 40 s of the worst JPEGs are a few megabytes
	if err := ffmpeg(ctx, &crushed, slices.Concat(in, []string{"-c:v", "mjpeg", "-q:v", "31", "-pix_fmt", "yuvj420p", "-r", "10", "-f", "avi", "-"})...); err != nil {
		return err
	}
	between := to + ".avi"
	defer func() { _ = os.Remove(between) }()
	if err := os.WriteFile(between, crushed.Bytes(), 0o600); err != nil {
		return err
	}
	return ffmpeg(ctx, nil, slices.Concat([]string{"-nostdin", "-y", "-loglevel", "error", "-i", between}, encode, []string{to})...)
}

func ffmpeg(ctx context.Context, out *bytes.Buffer, args ...string) error {
	cmd := exec.CommandContext(ctx, "ffmpeg", args...) //nolint:gosec // the program that the set-up installs
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if out != nil {
		cmd.Stdout = out
	}
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("the command ffmpeg is not installed: %w", err)
	}
	if err != nil {
		return fmt.Errorf("ffmpeg: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return nil
}
