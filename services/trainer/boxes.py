"""Box arithmetic shared by labelling, training and evaluation. Boxes are rows of x1, y1, x2, y2 in pixels."""

import numpy as np


def iou_matrix(a, b):
    """Intersection over union of every box of `a` with every box of `b`, shape [len(a), len(b)]."""
    a = np.asarray(a, np.float32).reshape(-1, 4)
    b = np.asarray(b, np.float32).reshape(-1, 4)
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    area_a = (a[:, 2:] - a[:, :2]).prod(axis=1)
    area_b = (b[:, 2:] - b[:, :2]).prod(axis=1)
    return overlap / np.maximum(area_a[:, None] + area_b[None] - overlap, 1e-9)


def nms(boxes, scores, threshold):
    """Greedy non-maximum suppression; returns the indices kept, best first. The Go side does the same."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores), kind="stable")
    overlaps = iou_matrix(boxes, boxes)
    kept = []
    for i in order:
        if all(overlaps[i, j] <= threshold for j in kept):
            kept.append(int(i))
    return kept


def match(predicted, truth, threshold=0.5):
    """Pairs predictions (best first) with truth boxes, each used once. Returns a list with a truth index or -1 each."""
    overlaps = iou_matrix(predicted, truth)
    free = np.ones(len(truth), bool)
    pairs = []
    for row in overlaps:
        candidates = np.where(free, row, -1)
        best = int(candidates.argmax()) if len(truth) else -1
        if best >= 0 and candidates[best] >= threshold:
            free[best] = False
            pairs.append(best)
        else:
            pairs.append(-1)
    return pairs


def interpolate(keys, frame):
    """The box of a track at `frame`, linear between its nearest key frames; `keys` maps frame to box."""
    if frame in keys:
        return np.asarray(keys[frame], np.float32)
    before = [f for f in keys if f < frame]
    after = [f for f in keys if f > frame]
    if not before or not after:
        return None
    lo, hi = max(before), min(after)
    t = (frame - lo) / (hi - lo)
    return (1 - t) * np.asarray(keys[lo], np.float32) + t * np.asarray(keys[hi], np.float32)


def clip(box, width, height):
    """Cuts a box to the picture."""
    x1, y1, x2, y2 = box
    return np.array([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)], np.float32)
