"""The footage: reading it, the empty scene behind it, and what moves in front.

The camera never moves, so the median over time is a picture of the scene with nobody in it, and whatever differs
from that picture is a person, a shadow or the barrier tape in the wind. Labels and synthetic scenes both start here.
"""

import cv2
import numpy as np

# Frames from TRAIN_END on are the test set. Nothing in this package may read them except `evaluate.py --draw`.
TRAIN_END = 477
# Frames [VALIDATION_START, TRAIN_END) choose the thresholds and the epoch; gradients never see them.
VALIDATION_START = 400

WIDTH, HEIGHT = 768, 576


def read_frames(path, first=0, last=TRAIN_END):
    """Returns frames [first, last) as one uint8 array [n, HEIGHT, WIDTH, 3], BGR as OpenCV decodes them."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    index = 0
    while index < last:
        ok, frame = capture.read()
        if not ok:
            break
        if index >= first:
            frames.append(frame)
        index += 1
    capture.release()
    if len(frames) != last - first:
        raise ValueError(f"{path}: want frames {first}..{last - 1}, got {len(frames)} of them; is it vtest.avi?")
    footage = np.stack(frames)
    if footage.shape[1:] != (HEIGHT, WIDTH, 3):
        raise ValueError(f"{path}: frames are {footage.shape[2]}x{footage.shape[1]}, want {WIDTH}x{HEIGHT}")
    return footage


def empty_scene(frames):
    """The scene without people: the median of every third frame."""
    return np.median(frames[::3], axis=0).astype(np.uint8)


def foreground(frame, scene, threshold=28):
    """Marks the pixels of `frame` that belong to something not in `scene` (uint8, 0 or 1).

    A soft shadow darkens all three channels by the same factor, a dark coat does not: pixels whose channel ratios agree
    and which kept more than 60 % of their brightness are taken for shadow and left out, so boxes end at the shoes.
    """
    smooth = cv2.GaussianBlur(frame, (3, 3), 0).astype(np.float32)
    smooth_scene = cv2.GaussianBlur(scene, (3, 3), 0).astype(np.float32)
    mask = (np.abs(smooth - smooth_scene).max(axis=2) > threshold).astype(np.uint8)
    ratio = (frame.astype(np.float32) + 8) / (scene.astype(np.float32) + 8)
    mean = ratio.mean(axis=2)
    shadow = (ratio.max(axis=2) - ratio.min(axis=2) < 0.12) & (mean > 0.6) & (mean < 1)
    mask[shadow] = 0
    # An opening that does not shift: with an even kernel the two anchors must differ.
    kernel = np.ones((2, 2), np.uint8)
    mask = cv2.dilate(cv2.erode(mask, kernel, anchor=(0, 0)), kernel, anchor=(1, 1))
    return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 9)))


def restless_pixels(masks, share=0.3):
    """Pixels that are foreground too often to be people: the barrier tape in the wind (uint8, 0 or 1)."""
    often = (masks.mean(axis=0) > share).astype(np.uint8)
    return cv2.dilate(often, np.ones((3, 3), np.uint8))
