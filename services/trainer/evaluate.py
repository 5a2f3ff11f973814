"""Measures model.onnx on the hand-labelled validation frames, through the lossy path that frames take at run time.

The file itself is run, by OpenCV's dnn module, so what is measured is what is shipped.
"""

import argparse
import json
import pathlib

import cv2
import numpy as np

import boxes as bx
import footage
import net

VALIDATION = pathlib.Path(__file__).with_name("validation.json")

# What model.yaml says. Chosen on the validation frames: the middle of the range in which nothing changes much.
SCORE_THRESHOLD, IOU_THRESHOLD = 0.4, 0.5

# How a frame may reach the network: (name, resizer, JPEG quality, blur). The first one counts, the others are there to
# see that nothing depends on it.
PATHS = (
    ("area, JPEG 88", cv2.INTER_AREA, 88, 0.0),
    ("bilinear, JPEG 85", cv2.INTER_LINEAR, 85, 0.0),
    ("bicubic, no JPEG", cv2.INTER_CUBIC, None, 0.0),
    ("soft, JPEG 75", cv2.INTER_AREA, 75, 1.5),
)


class Model:
    """model.onnx with its thresholds: frame in, boxes out."""

    def __init__(self, path, score_threshold=SCORE_THRESHOLD, iou_threshold=IOU_THRESHOLD):
        self.network = cv2.dnn.readNetFromONNX(str(path))
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold

    def rows(self, images):
        """The raw output [cells, 5] for one preprocessed picture [1,3,H,W]."""
        self.network.setInput(np.asarray(images, np.float32))
        return self.network.forward()[0]

    def detect(self, frame, path=PATHS[0]):
        """Boxes in the footage's pixels, and scores, best first."""
        rows = self.rows(prepare(frame, *path[1:]))
        rows = rows[rows[:, 4] >= self.score_threshold]
        kept = bx.nms(rows[:, :4], rows[:, 4], self.iou_threshold)
        scale = [footage.WIDTH / net.INPUT_WIDTH, footage.HEIGHT / net.INPUT_HEIGHT] * 2
        return rows[kept, :4] * scale, rows[kept, 4]


def prepare(frame, resizer, quality, blur):
    """A frame as the pipeline delivers it: scaled, through JPEG, RGB in 0..1, [1,3,H,W]."""
    if blur:
        frame = cv2.GaussianBlur(frame, (0, 0), blur)
    small = cv2.resize(frame, (net.INPUT_WIDTH, net.INPUT_HEIGHT), interpolation=resizer)
    if quality:
        _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
        small = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return small[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255


def count(found, truth):
    """Hits, false alarms and misses at IoU 0.5 over all frames. `found` and `truth` map frame numbers to boxes."""
    hits = wrong = missed = 0
    for frame, want in truth.items():
        pairs = bx.match(found[frame], want)
        good = sum(p >= 0 for p in pairs)
        hits, wrong, missed = hits + good, wrong + len(pairs) - good, missed + len(want) - good
    return {"recall": round(hits / max(hits + missed, 1), 3), "precision": round(hits / max(hits + wrong, 1), 3)}


def validation_truth():
    """The hand-drawn boxes by frame number."""
    document = json.loads(VALIDATION.read_text())
    return {int(frame): np.asarray(row, np.float32) for frame, row in document["frames"].items()}


def validate(path, frames):
    """Recall and precision of the file at `path`: as shipped, per preparation, and around the two thresholds."""
    truth = validation_truth()

    def measure(score=SCORE_THRESHOLD, iou=IOU_THRESHOLD, way=PATHS[0]):
        model = Model(path, score, iou)
        return count({f: model.detect(frames[f], way)[0] for f in truth}, truth)

    return {
        "frames": len(truth),
        "people": sum(map(len, truth.values())),
        "score_threshold": SCORE_THRESHOLD,
        "iou_threshold": IOU_THRESHOLD,
        **measure(),
        "by_preparation": {way[0]: measure(way=way) for way in PATHS},
        "by_score_threshold": {str(s): measure(score=s) for s in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)},
        "by_iou_threshold": {str(i): measure(iou=i) for i in (0.4, 0.45, 0.5, 0.55, 0.6, 0.7)},
    }


def as_json(metrics):
    """Metrics with one line for each top-level entry."""
    return "{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in metrics.items()) + "\n}\n"


def draw(model, footage_path, folder, first, last, step):
    """Writes pictures with the predictions, for looking at."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = footage.read_frames(footage_path, first, last)
    for i in range(0, len(frames), step):
        picture = frames[i].copy()
        for (x1, y1, x2, y2), score in zip(*model.detect(frames[i])):
            corner = (round(x1), round(y1) - 2)
            cv2.rectangle(picture, (round(x1), round(y1)), (round(x2), round(y2)), (0, 255, 255), 1)
            cv2.putText(picture, f"{score:.2f}"[1:], corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 255), 1)
        cv2.imwrite(str(folder / f"found{first + i:03d}.png"), picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", help="vtest.avi")
    parser.add_argument("model", help="model.onnx")
    parser.add_argument("--draw", type=pathlib.Path, help="also write pictures with the predictions into this folder")
    parser.add_argument("--first", type=int, default=footage.VALIDATION_START)
    parser.add_argument("--last", type=int, default=footage.TRAIN_END)
    parser.add_argument("--step", type=int, default=10)
    args = parser.parse_args()
    print(as_json(validate(args.model, footage.read_frames(args.footage))), end="")
    if args.draw:
        draw(Model(args.model), args.footage, args.draw, args.first, args.last, args.step)


if __name__ == "__main__":
    main()
