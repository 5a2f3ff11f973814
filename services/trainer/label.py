"""Labels the training slice by itself: background subtraction, HOG, blob splitting, tracking, and written-down mends.

The steps, each of which can be looked at with `label.py --draw`:

1. `singles`: blobs that can only be one person, judged by the height a person has at that place (`HeightModel`).
2. `split`: people side by side are cut apart between their heads.
3. `track`: singles are linked over time; where somebody vanishes in a group, behind the lamp post or behind another,
   the box is interpolated between the last clean sight and the next.
4. `mends.json`: the few things a person saw to be wrong when looking at the result.
"""

import argparse
import json
import pathlib

import cv2
import numpy as np

import boxes as bx
import footage

MENDS = pathlib.Path(__file__).with_name("mends.json")


class HeightModel:
    """How tall a person is, in pixels, whose feet are at (x, y). On a ground plane this is affine in x and y."""

    def __init__(self, coefficients):
        self.coefficients = np.asarray(coefficients, np.float64)

    def __call__(self, x, y):
        return float(self.coefficients @ (1, x, y))

    @classmethod
    def fit(cls, observed):
        """Fits boxes of single people; re-weights three times so that a mislabelled group does not bend the plane."""
        observed = np.asarray(observed, np.float64)
        a = np.stack([np.ones(len(observed)), (observed[:, 0] + observed[:, 2]) / 2, observed[:, 3]], axis=1)
        height = observed[:, 3] - observed[:, 1]
        weight = np.ones(len(observed))
        for _ in range(4):
            solution, *_ = np.linalg.lstsq(a * weight[:, None], height * weight, rcond=None)
            residual = np.abs(a @ solution - height)
            weight = 1 / np.maximum(residual, 2)
        return cls(solution)


def blobs(mask, least=60):
    """Connected foreground regions as (box, area, label), and the label image."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for i in range(1, count):
        x, y, w, h, area = stats[i]
        if area >= least:
            found.append((np.array([x, y, x + w, y + h], np.float32), int(area), i))
    return found, labels


def calm(mask, restless):
    """Removes barrier tape: restless pixels go unless solid foreground surrounds them, then thin strands are opened away."""
    solid = cv2.boxFilter(mask.astype(np.float32), -1, (7, 13)) > 0.62
    mask = mask & ~((restless > 0) & ~solid).astype(np.uint8)
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))


def hog_heights(frames, masks, step=8):
    """Boxes of single people that OpenCV's HOG detector and the foreground agree on; they seed the height model."""
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
    agreed = []
    for index in range(0, len(frames), step):
        big = cv2.resize(frames[index], None, fx=1.6, fy=1.6)
        found, _ = hog.detectMultiScale(big, winStride=(8, 8), scale=1.07)
        regions, _ = blobs(masks[index], least=200)
        for box, _, _ in regions:
            w, h = box[2:] - box[:2]
            if not 0.22 < w / h < 0.55 or box[0] < 2 or box[2] > footage.WIDTH - 2:
                continue
            for x, y, fw, fh in np.asarray(found, np.float32).reshape(-1, 4) / 1.6:
                # HOG windows carry a margin: the person is about 80 % of the height and half of the width.
                person = [x + fw * 0.2, y + fh * 0.09, x + fw * 0.8, y + fh * 0.93]
                if bx.iou_matrix([box], [person])[0, 0] > 0.5:
                    agreed.append(box)
                    break
    return agreed


def valleys(region, expected_width):
    """Columns at which a wide region is cut: the lowest skyline between neighbouring heads."""
    columns = region.any(axis=0)
    height = region.shape[0]
    top = np.where(columns, region.argmax(axis=0), height)
    skyline = cv2.blur((height - top).astype(np.float32)[None], (5, 1))[0]
    reach = max(int(expected_width * 0.42), 3)
    heads = []
    for x in range(len(skyline)):
        window = skyline[max(0, x - reach):x + reach + 1]
        if skyline[x] >= 0.6 * height and skyline[x] == window.max() and (not heads or x - heads[-1] > reach):
            heads.append(x)
    cuts = []
    for a, b in zip(heads, heads[1:]):
        low = a + int(skyline[a:b + 1].argmin())
        if skyline[low] < min(skyline[a], skyline[b]) - 0.06 * height:
            cuts.append(low)
    return cuts


def plausible(box, height_model, tolerance=0.16):
    """Whether a box has the height and width of one person standing where its feet are."""
    w, h = box[2] - box[0], box[3] - box[1]
    want = height_model((box[0] + box[2]) / 2, box[3])
    return abs(h / want - 1) < tolerance and 0.18 < w / h < 0.62


def singles(mask, height_model):
    """Boxes that are surely one person each."""
    found = []
    regions, labels = blobs(mask, least=80)
    for box, area, label in regions:
        x1, y1, x2, y2 = box.astype(int)
        region = labels[y1:y2, x1:x2] == label
        want = height_model((x1 + x2) / 2, y2)
        if want < 20:
            continue
        parts = [box]
        if (x2 - x1) > 0.5 * want:
            cuts = valleys(region, 0.38 * want)
            if cuts:
                parts = []
                for a, b in zip([0, *cuts], [*cuts, x2 - x1]):
                    ys, xs = np.nonzero(region[:, a:b])
                    if len(ys) > 60:
                        parts.append(np.array([x1 + a + xs.min(), y1 + ys.min(), x1 + a + xs.max() + 1, y1 + ys.max() + 1], np.float32))
        for part in parts:
            px1, py1, px2, py2 = part.astype(int)
            fill = mask[py1:py2, px1:px2].mean()
            if plausible(part, height_model) and fill > 0.35:
                found.append(part)
    return found


def colours(frame, box, mask):
    """A colour histogram of the person in a box, for recognising them after a gap."""
    x1, y1, x2, y2 = bx.clip(box, footage.WIDTH, footage.HEIGHT).astype(int)
    middle = (y1 + y2) // 2
    parts = []
    for a, b in ((y1, middle), (middle, y2)):
        lab = cv2.cvtColor(frame[a:b, x1:x2], cv2.COLOR_BGR2LAB)
        hist = cv2.calcHist([lab], [0, 1, 2], mask[a:b, x1:x2], [6, 6, 6], [0, 256, 96, 160, 96, 160])
        parts.append(np.sqrt(hist.ravel() / max(hist.sum(), 1)))
    return np.concatenate(parts) / np.sqrt(2)


class Track:
    """One person over time: observed boxes by frame, and what they look like."""

    def __init__(self, frame, box, look):
        self.keys = {frame: box}
        self.look = look

    @property
    def first(self):
        return min(self.keys)

    @property
    def last(self):
        return max(self.keys)

    def velocity(self, at_end):
        """Pixels per frame of the feet over the last (or first) dozen observations."""
        frames = sorted(self.keys)
        frames = frames[-12:] if at_end else frames[:12]
        if len(frames) < 2:
            return np.zeros(4, np.float32)
        return (self.keys[frames[-1]] - self.keys[frames[0]]) / (frames[-1] - frames[0])

    def add(self, frame, box, look):
        self.keys[frame] = box
        self.look = 0.9 * self.look + 0.1 * look


def track(observations, frames, masks, join_gap=60, least=6):
    """Links single-person boxes into tracks and joins tracks over gaps."""
    done, live = [], []
    for index, found in enumerate(observations):
        live_now = []
        for t in live:
            (live_now if index - t.last <= 4 else done).append(t)
        live = live_now
        looks = [colours(frames[index], b, masks[index]) for b in found]
        pairs = []
        for i, t in enumerate(live):
            guess = t.keys[t.last] + t.velocity(True) * (index - t.last)
            for j, box in enumerate(found):
                overlap = bx.iou_matrix([guess], [box])[0, 0]
                alike = float(t.look @ looks[j])
                if overlap > 0.25 and alike > 0.5:
                    pairs.append((overlap + alike, i, j))
        used_t, used_b = set(), set()
        for _, i, j in sorted(pairs, reverse=True):
            if i in used_t or j in used_b:
                continue
            used_t.add(i)
            used_b.add(j)
            live[i].add(index, found[j], looks[j])
        live += [Track(index, found[j], looks[j]) for j in range(len(found)) if j not in used_b]
    tracks = [t for t in done + live if len(t.keys) >= 3]
    return [t for t in join(tracks, join_gap) if len(t.keys) >= least]


def at_border(box, margin=3):
    """Whether a box touches the left or right edge of the picture, where people come and go."""
    return box[0] <= margin or box[2] >= footage.WIDTH - margin


def join(tracks, longest):
    """Joins a track that ends with one that begins later, where a walk explains the gap and the colours agree.

    Somebody last seen at the edge of the picture has left it; whoever appears there later is not joined to them.
    """
    while True:
        best = None
        for a in tracks:
            for b in tracks:
                gap = b.first - a.last
                if a is b or not 0 < gap <= longest:
                    continue
                if gap > 6 and (at_border(a.keys[a.last]) or at_border(b.keys[b.first])):
                    continue
                end, start = a.keys[a.last], b.keys[b.first]
                height = (end[3] - end[1] + start[3] - start[1]) / 2
                ahead = np.abs(end + a.velocity(True) * gap - start)[[0, 3]].max()
                behind = np.abs(start - b.velocity(False) * gap - end)[[0, 3]].max()
                still = np.abs(end - start)[[0, 3]].max()
                miss = min(ahead, behind, still) / height
                alike = float(a.look @ b.look)
                if miss < 0.25 + 0.02 * gap and alike > 0.62:
                    cost = miss + (1 - alike) + 0.01 * gap
                    if best is None or cost < best[0]:
                        best = (cost, a, b)
        if best is None:
            return tracks
        _, a, b = best
        a.keys.update(b.keys)
        a.look = (a.look + b.look) / 2
        tracks = [t for t in tracks if t is not b]


def through_border(t, masks, longest=14):
    """Follows a track out of (and back into) the picture: the last boxes cut by the edge are too narrow for `singles`."""
    count = len(masks)
    for at_end in (True, False):
        edge = t.last if at_end else t.first
        box = t.keys[edge]
        step = t.velocity(at_end) * (1 if at_end else -1)
        near = box[0] < 30 or box[2] > footage.WIDTH - 30
        outwards = step[0] < 0 if box[0] < 30 else step[2] > 0
        if not near or not outwards:
            continue
        # The visible part shrinks, so move the whole body: its width is that of the widest recent box.
        frames = sorted(t.keys)[-12:] if at_end else sorted(t.keys)[:12]
        width = np.median([t.keys[f][2] - t.keys[f][0] for f in frames])
        speed = np.median([step[0], step[2]])
        left = box[0] if box[2] >= footage.WIDTH - 3 else box[2] - width
        for k in range(1, longest):
            frame = edge + k if at_end else edge - k
            moved = np.array([left + speed * k, box[1] + step[1] * k, left + speed * k + width, box[3] + step[3] * k])
            moved = bx.clip(moved, footage.WIDTH, footage.HEIGHT)
            if not 0 <= frame < count or moved[2] - moved[0] < 0.35 * width:
                break
            x1, y1, x2, y2 = moved.astype(int)
            if masks[frame][y1:y2, x1:x2].mean() < 0.3:
                break
            t.keys[frame] = moved


def label(frames, verbose=False):
    """Labels every frame. Returns a list (one entry per frame) of lists of (track number, box), the scene and the masks."""
    scene = footage.empty_scene(frames)
    raw = np.stack([footage.foreground(f, scene) for f in frames])
    restless = footage.restless_pixels(raw, 0.18)
    masks = np.stack([calm(m, restless) for m in raw])
    height_model = HeightModel.fit(hog_heights(frames, masks))
    observations = [singles(m, height_model) for m in masks]
    tracks = sorted(track(observations, frames, masks), key=lambda t: (t.first, t.keys[t.first][0]))
    for t in tracks:
        through_border(t, masks)
    if verbose:
        print("height model", height_model.coefficients)
        for i, t in enumerate(tracks):
            print(i, t.first, t.last, len(t.keys), t.keys[t.first].astype(int), t.keys[t.last].astype(int))
    labels = []
    for index in range(len(frames)):
        row = [(number, bx.interpolate(t.keys, index)) for number, t in enumerate(tracks)]
        labels.append([(number, box) for number, box in row if box is not None])
    apply_mends(labels, json.loads(MENDS.read_text()))
    return labels, scene, masks, height_model


def apply_mends(labels, mends):
    """Applies the corrections of mends.json in place: first `erase`, then `add`.

    An erasure drops every box whose centre lies inside a region during some frames; an addition is a track drawn by
    hand at key frames. Neither names a track number, so mends survive changes to the tracker.
    """
    for mend in mends["erase"]:
        x1, y1, x2, y2 = mend["inside"]
        for frame in range(mend["from"], min(mend["to"] + 1, len(labels))):
            labels[frame] = [
                (number, b) for number, b in labels[frame]
                if not (x1 <= (b[0] + b[2]) / 2 <= x2 and y1 <= (b[1] + b[3]) / 2 <= y2)
            ]
    for number, mend in enumerate(mends["add"], start=100):
        keys = {int(f): b for f, b in mend["boxes"].items()}
        for frame in range(min(keys), min(max(keys) + 1, len(labels))):
            labels[frame].append((number, bx.clip(bx.interpolate(keys, frame), footage.WIDTH, footage.HEIGHT)))


def draw(frame, row):
    """A copy of the frame with its labels, for looking at."""
    out = frame.copy()
    for number, box in row:
        x1, y1, x2, y2 = (int(round(v)) for v in box)
        colour = tuple(int(c) for c in np.random.default_rng(number).integers(80, 256, 3))
        cv2.rectangle(out, (x1, y1), (x2, y2), colour, 1)
        cv2.putText(out, str(number), (x1, y1 - 2), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("footage")
    parser.add_argument("--draw", type=pathlib.Path, help="write every tenth frame with its labels into this folder")
    args = parser.parse_args()
    frames = footage.read_frames(args.footage)
    labels, _, masks, _ = label(frames, verbose=True)
    print(sum(map(len, labels)), "boxes in", len(frames), "frames")
    if args.draw:
        args.draw.mkdir(parents=True, exist_ok=True)
        for index in range(0, len(frames), 10):
            cv2.imwrite(str(args.draw / f"label{index:03d}.png"), draw(frames[index], labels[index]))


if __name__ == "__main__":
    main()
