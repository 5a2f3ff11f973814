// Command drifttrace runs footage through the parts of the pipeline that see pictures, in one process and without a
// broker, and writes what the drift-monitor would hear of each: quality figures and detections. It makes the golden
// inputs of services/drift-monitor's tests (record.sh beside it).
//
//	drifttrace [-phase 0] [-every 2] footage.ts > trace.jsonl
//
// The first line names the picture's size; every other line is one picture, an array:
// milliseconds since the start, luma, contrast, sharpness, saturation, temporal difference, perceptual hash, and then
// score (thousandths), x1, y1, x2, y2 (pixels) of each detection.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/pkg/frame"
	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/heads"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/adapters"
	"github.com/sightline-dev/sightline/services/preprocess"
	"github.com/sightline-dev/sightline/services/preprocess/quality"
	"github.com/sightline-dev/sightline/services/sightline/detect"
	"github.com/sightline-dev/sightline/services/sightline/system"
)

// jpegQuality is the default of cameras.
const jpegQuality = 85

func main() {
	every := flag.Int("every", 2, "take every n-th picture")
	phase := flag.Int("phase", 0, "starting with this one")
	models := flag.String("models", "models", "model repository")
	name := flag.String("model", "person", "model, by name or as an .onnx file")
	class := flag.String("class", "", "keep detections of this class only")
	flag.Parse()
	w := bufio.NewWriter(os.Stdout)
	err := run(context.Background(), w, flag.Arg(0), *models, *name, *class, *every, *phase)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, path, models, name, class string, every, phase int) error {
	footage, err := camera.Load(path, 10)
	if err != nil {
		return err
	}
	artifact, err := detect.Find(model.Repository{Dir: models}, name, "")
	if err != nil {
		return err
	}
	backend, err := system.NewBackend(os.Getenv("SIGHTLINE_ORT_LIBRARY"))
	if err != nil {
		return err
	}
	m, err := infer.Load(ctx, backend, artifact, infer.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	decoder, err := adapters.NewDecoder(ingest.Codec(footage.Codec))
	if err != nil {
		return err
	}
	defer decoder.Close()
	r := recorder{w: w, model: m, class: class, imager: system.NewImager()}
	n := 0
	for u := range footage.Pictures() {
		p, err := decoder.Decode(ingest.AccessUnit{Codec: ingest.Codec(footage.Codec), Data: u.Data, PTS: u.PTS, Received: time.Now(), Key: u.Key})
		if err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		if p == nil {
			continue
		}
		if n%every == phase {
			if err := r.picture(ctx, p); err != nil {
				return err
			}
		}
		n++
	}
	return nil
}

type recorder struct {
	w      io.Writer
	model  *infer.Model
	imager preprocess.Imager
	class  string
	first  time.Duration
	before []uint8
	begun  bool
}

// picture does what ingest, preprocess and infer do with a picture of a camera whose only model this is.
func (r *recorder) picture(ctx context.Context, p ingest.Picture) error {
	input := r.model.Artifact().Declaration.Input
	width, height := p.Size()
	plan, err := input.Plan(width, height, model.Region{})
	if err != nil {
		return err
	}
	jpeg, err := p.JPEG(nil, min(plan.Content.Dx(), width), min(plan.Content.Dy(), height), jpegQuality)
	if err != nil {
		return err
	}
	img, err := r.imager.Decode(jpeg)
	if err != nil {
		return err
	}
	defer img.Close()
	w, h := img.Size()
	if plan, err = input.Plan(w, h, model.Region{}); err != nil {
		return err
	}
	pixels := make([]byte, input.Bytes())
	if err := img.Tensor(pixels, plan, input); err != nil {
		return err
	}
	scale := model.Scaling(input.Width, input.Height, width, height)
	answers, err := r.model.Infer(ctx, []infer.Tensor{{Data: pixels, Transform: scale, SourceW: width, SourceH: height}})
	if err != nil {
		return err
	}
	if !r.begun {
		r.begun, r.first = true, p.PTS()
		if _, err := fmt.Fprintf(r.w, "[%d,%d]\n", width, height); err != nil {
			return err
		}
	}
	return r.write(p.PTS()-r.first, img.Quality(model.Region{}), r.difference(pixels), answers[0].Detections)
}

// difference is the mean absolute difference of grey to the picture before, 0 to 255.
func (r *recorder) difference(rgb []byte) float64 {
	grey := make([]uint8, 0, len(rgb)/3)
	for i := 0; i+2 < len(rgb); i += 3 {
		grey = append(grey, quality.Grey(rgb[i], rgb[i+1], rgb[i+2]))
	}
	before := r.before
	r.before = grey
	if len(before) != len(grey) {
		return 0
	}
	sum := 0.0
	for i, v := range grey {
		sum += math.Abs(float64(v) - float64(before[i]))
	}
	return sum / float64(len(grey))
}

func (r *recorder) write(at time.Duration, q frame.Quality, difference float64, found []heads.Detection) error {
	line := []any{
		at.Milliseconds(), rounded(q.Luma), rounded(q.Contrast), rounded(q.Sharpness), rounded(q.Saturation),
		rounded(difference), strconv.FormatUint(q.Hash, 16),
	}
	for _, d := range found {
		if r.class != "" && d.Class != r.class {
			continue
		}
		line = append(line, math.Round(float64(d.Score)*1000))
		for _, v := range d.Box {
			line = append(line, math.Round(float64(v)))
		}
	}
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = r.w.Write(append(data, '\n'))
	return err
}

func rounded(v float64) float64 { return math.Round(v*100) / 100 }
