//go:build cgo

package scenarios

import (
	"context"
	"fmt"
	"time"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/services/camera"
	"github.com/sightline-dev/sightline/services/drift-monitor/quality"
	"github.com/sightline-dev/sightline/services/infer"
	"github.com/sightline-dev/sightline/services/infer/heads"
	"github.com/sightline-dev/sightline/services/ingest"
	"github.com/sightline-dev/sightline/services/ingest/adapters"
	"github.com/sightline-dev/sightline/services/sightline/system"
)

const (
	truthEvery   = 5   // pictures
	truthScore   = 0.5 // of answers that are taken for true
	truthQuality = 85  // of JPEGs, as cameras have by default
	foundScore   = 0.4 // of the demo's model
	fewObjects   = 20  // say nothing
)

// examiner answers single pictures of footage as the pipeline would.
type examiner struct{ model *infer.Model }

// answers are the detections in every few pictures of a clip.
func (e *examiner) answers(ctx context.Context, path string) (found [][]heads.Detection, width int, height int, err error) {
	footage, err := camera.Load(path, stillsFPS)
	if err != nil {
		return nil, 0, 0, err
	}
	decoder, err := adapters.NewDecoder(ingest.Codec(footage.Codec))
	if err != nil {
		return nil, 0, 0, err
	}
	defer decoder.Close()
	n := 0
	for u := range footage.Pictures() {
		p, err := decoder.Decode(ingest.AccessUnit{Codec: ingest.Codec(footage.Codec), Data: u.Data, PTS: u.PTS, Received: time.Now(), Key: u.Key})
		if err != nil {
			return nil, 0, 0, fmt.Errorf("decode %s: %w", path, err)
		}
		if p == nil {
			continue
		}
		if n%truthEvery == 0 {
			width, height = p.Size()
			detections, err := e.look(ctx, p)
			if err != nil {
				return nil, 0, 0, fmt.Errorf("%s: %w", path, err)
			}
			found = append(found, detections)
		}
		n++
	}
	return found, width, height, nil
}

func (e *examiner) look(ctx context.Context, p ingest.Picture) ([]heads.Detection, error) {
	input := e.model.Artifact().Declaration.Input
	width, height := p.Size()
	plan, err := input.Plan(width, height, model.Region{})
	if err != nil {
		return nil, err
	}
	jpeg, err := p.JPEG(nil, min(plan.Content.Dx(), width), min(plan.Content.Dy(), height), truthQuality)
	if err != nil {
		return nil, err
	}
	img, err := system.NewImager().Decode(jpeg)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	w, h := img.Size()
	if plan, err = input.Plan(w, h, model.Region{}); err != nil {
		return nil, err
	}
	pixels := make([]byte, input.Bytes())
	if err := img.Tensor(pixels, plan, input); err != nil {
		return nil, err
	}
	toSource := model.Scaling(w, h, width, height)
	answers, err := e.model.Infer(ctx, []infer.Tensor{{Data: pixels, Transform: plan.Transform.Then(toSource), SourceW: width, SourceH: height}})
	if err != nil {
		return nil, err
	}
	return answers[0].Detections, nil
}

// truth compares answers to changed pictures with those to the same pictures unchanged.
func truth(clean, changed [][]heads.Detection, width, height int, turned camera.Turn) *Truth {
	var objects, found, answers, right int
	for i := range min(len(clean), len(changed)) {
		var there []quality.Object
		for _, d := range clean[i] {
			if d.Score >= truthScore {
				there = append(there, quality.Object{Class: d.Class, Box: turn(d.Box, width, height, turned)})
			}
		}
		var said []quality.Answer
		for _, d := range changed[i] {
			if d.Score >= foundScore {
				said = append(said, quality.Answer{Class: d.Class, Score: float64(d.Score), Box: turn(d.Box, width, height, camera.Turn{})})
			}
		}
		m := quality.Match(there, said)
		objects, answers = objects+len(there), answers+len(said)
		for _, ok := range m.Found {
			if ok {
				found++
			}
		}
		for _, ok := range m.Right {
			if ok {
				right++
			}
		}
	}
	if objects < fewObjects {
		return nil
	}
	t := &Truth{Recall: float64(found) / float64(objects), Precision: 1, Objects: objects}
	if answers > 0 {
		t.Precision = float64(right) / float64(answers)
	}
	return t
}

// turn is where a box is in the turned picture.
func turn(b [4]float32, width, height int, t camera.Turn) quality.Box {
	x1, y1, x2, y2 := float64(b[0]), float64(b[1]), float64(b[2]), float64(b[3])
	if t.Across {
		x1, x2 = float64(width)-x2, float64(width)-x1
	}
	if t.Down {
		y1, y2 = float64(height)-y2, float64(height)-y1
	}
	return quality.Box{x1, y1, x2, y2}
}
