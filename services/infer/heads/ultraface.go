package heads

import "github.com/sightline-dev/sightline/pkg/model"

// ultraface reads version-RFB-320 and its kin: boxes x1, y1, x2, y2 as parts of the picture, already decoded, and the
// scores of background and face.
func ultraface(d model.Declaration) family {
	score, iou := float32(d.ScoreThreshold), float32(d.IoUThreshold)
	w, h := float32(d.Input.Width), float32(d.Input.Height)
	return family{
		shapes: map[string][]string{model.RoleScores: {"N,A,2"}, model.RoleBoxes: {"N,A,4"}},
		decode: func(it item) Answer {
			scores, boxes := it.data[model.RoleScores], it.data[model.RoleBoxes]
			var found []Detection
			for i := 1; i < len(scores); i += 2 {
				if scores[i] <= score {
					continue
				}
				b := boxes[2*(i-1) : 2*(i-1)+4]
				if box := [4]float32{b[0] * w, b[1] * h, b[2] * w, b[3] * h}; hasArea(box) {
					found = append(found, Detection{Class: d.Classes[0], Score: scores[i], Box: box})
				}
			}
			return Answer{Detections: NMS(found, iou)}
		},
	}
}
