package heads

import "github.com/sightline-dev/sightline/pkg/model"

// person reads the detector that services/trainer makes: decoded boxes x1, y1, x2, y2 in input pixels, and a score.
func person(d model.Declaration) family {
	const width = 5
	score, iou := float32(d.ScoreThreshold), float32(d.IoUThreshold)
	return family{
		shapes: map[string][]string{model.RoleDetections: {"N,A,5"}},
		decode: func(it item) Answer {
			var found []Detection
			for rows := it.data[model.RoleDetections]; len(rows) >= width; rows = rows[width:] {
				if rows[4] <= score {
					continue
				}
				if box := [4]float32(rows[:4]); hasArea(box) {
					found = append(found, Detection{Class: d.Classes[0], Score: rows[4], Box: box})
				}
			}
			return Answer{Detections: NMS(found, iou)}
		},
	}
}
