package heads

import (
	"math"
	"strconv"

	"github.com/sightline-dev/sightline/pkg/model"
)

// fastestdet reads the one-scale detector of that name. Each cell of its grid has, one plane after the other, how likely
// it holds an object, its box, and the softmax over the classes.
func fastestdet(d model.Declaration) family {
	const box, classes = 1, 5 // the first planes of each
	const objectPower, classPower = 0.6, 0.4
	threshold := float32(d.ScoreThreshold)
	// A class's share is at most 1, so a cell below this cannot pass: most never get to the classes.
	least := float32(math.Pow(d.ScoreThreshold, 1/objectPower))
	n := len(d.Classes)
	decode := func(it item) Answer {
		out := it.data[model.RoleDetections]
		gw, gh := int(it.axes["W"]), int(it.axes["H"])
		cells := gw * gh
		width, height := float64(d.Input.Width), float64(d.Input.Height)
		var found []Detection
		for cell := range cells {
			if out[cell] < least || out[cell] <= 0 {
				continue
			}
			best := 0
			for c := 1; c < n; c++ {
				if out[(classes+c)*cells+cell] > out[(classes+best)*cells+cell] {
					best = c
				}
			}
			share := max(out[(classes+best)*cells+cell], 0)
			score := float32(math.Pow(float64(out[cell]), objectPower) * math.Pow(float64(share), classPower))
			if score <= threshold {
				continue
			}
			at := func(plane int) float64 { return float64(out[(box+plane)*cells+cell]) }
			cx := (float64(cell%gw) + math.Tanh(at(0))) / float64(gw) * width
			cy := (float64(cell/gw) + math.Tanh(at(1))) / float64(gh) * height
			w, h := sigmoid(at(2))*width/2, sigmoid(at(3))*height/2
			b := [4]float32{float32(cx - w), float32(cy - h), float32(cx + w), float32(cy + h)}
			if hasArea(b) {
				found = append(found, Detection{ClassID: best, Class: d.Classes[best], Score: score, Box: b})
			}
		}
		return Answer{Detections: NMS(found, float32(d.IoUThreshold))}
	}
	return family{
		shapes: map[string][]string{model.RoleDetections: {"N," + strconv.Itoa(classes+n) + ",H,W"}},
		decode: decode,
	}
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
