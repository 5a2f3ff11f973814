"""Makes training pictures: labelled frames, and people cut out of them pasted elsewhere.

Four hundred frames of a dozen people are few. Pasting gives crowds whose labels are exact, also where people hide each
other or stand behind the lamp post. Every picture follows from its seed alone, so a run can be repeated.
"""

import cv2
import numpy as np

import boxes as bx
import footage
import net

# The lamp post with its sign: whoever stands beyond its foot (smaller y) is behind it.
POST_FOOT = 392
POST = [
    np.array([[413, 202], [446, 202], [446, 244], [413, 244]], np.int32),
    np.array([[424, 95], [429, 95], [438, 392], [428, 392]], np.int32),
]
RESIZERS = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def post_mask():
    """Pixels of the lamp post (uint8, 0 or 1)."""
    mask = np.zeros((footage.HEIGHT, footage.WIDTH), np.uint8)
    for polygon in POST:
        cv2.fillPoly(mask, [polygon], 1)
    return mask


POST_MASK = post_mask()
POST_AREA = (slice(90, 400), slice(408, 452))


class Cutout:
    """A person cut out of a frame: pixels, a soft mask, and the height they had, in pixels."""

    def __init__(self, pixels, alpha, box):
        self.pixels, self.alpha = pixels, alpha
        self.height = box[3] - box[1]
        self.x, self.foot = (box[0] + box[2]) / 2, box[3]


def cut_out(frames, labels, masks, every=2):
    """Cuts out everybody who is seen whole: inside the picture, away from the post and from other people."""
    found = []
    for index in range(0, len(frames), every):
        row = [box for _, box in labels[index]]
        overlaps = bx.iou_matrix(row, row) if row else None
        for i, box in enumerate(row):
            x1, y1, x2, y2 = np.round(box).astype(int)
            if x1 < 3 or x2 > footage.WIDTH - 3 or y2 - y1 < 30:
                continue
            if (np.delete(overlaps[i], i) > 0.01).any() or POST_MASK[y1:y2, x1:x2].any():
                continue
            margin = 2
            y1, y2, x1, x2 = max(y1 - margin, 0), y2 + margin, max(x1 - margin, 0), x2 + margin
            mask = masks[index][y1:y2, x1:x2]
            count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
            if count < 2:
                continue
            # One body; the largest part must be nearly everything, else this is two people or a torn mask.
            largest = 1 + int(stats[1:, 4].argmax())
            if stats[largest, 4] < 0.85 * mask.sum() or mask.mean() < 0.35:
                continue
            body = (parts == largest).astype(np.float32)
            alpha = np.clip(cv2.GaussianBlur(body, (0, 0), 0.8) * 1.6 - 0.45, 0, 1)
            found.append(Cutout(frames[index][y1:y2, x1:x2].copy(), alpha, box))
    return found


def ignored_regions(mask, row):
    """Boxes around sizeable foreground that no label explains: nobody should learn from them."""
    rest = mask.copy()
    for _, (x1, y1, x2, y2) in row:
        rest[int(max(y1 - 4, 0)):int(y2 + 5), int(max(x1 - 4, 0)):int(x2 + 5)] = 0
    count, _, stats, _ = cv2.connectedComponentsWithStats(rest)
    found = []
    for x, y, w, h, area in stats[1:]:
        if area > 90 and h > 0.8 * w:
            found.append(np.array([x - 2, y - 2, x + w + 2, y + h + 2], np.float32))
    return found


def redress(pixels, rng):
    """Gives half of the people other clothes: a dozen people, most in black, must stand for everybody."""
    out = pixels.astype(np.float32)
    if rng.random() < 0.5:
        return out
    waist = int(len(pixels) * rng.uniform(0.45, 0.58))
    collar = int(len(pixels) * 0.16)
    for part in (slice(collar, waist), slice(waist, len(pixels))):
        if rng.random() < 0.3 or out[part].shape[0] < 2:
            continue
        cloth = 255 * (out[part] / 255) ** rng.uniform(0.45, 1.15)
        tint = rng.uniform(0, 255, 3)
        strength = rng.uniform(0, 0.5)
        light = cloth.mean(axis=2, keepdims=True) / 128
        out[part] = cloth * (1 - strength) + tint * light * strength
    return np.clip(out, 0, 255)


class Scene:
    """One picture being composed, with the owner of every pixel so that visibility is known exactly."""

    def __init__(self, picture, row, mask):
        self.picture = picture
        self.owner = np.full(picture.shape[:2], -1, np.int16)
        self.people = []
        self.ignored = []
        for box in sorted(row, key=lambda b: b[3]):
            x1, y1, x2, y2 = (int(round(v)) for v in bx.clip(box, footage.WIDTH, footage.HEIGHT))
            view = self.owner[y1:y2, x1:x2]
            view[mask[y1:y2, x1:x2] > 0] = len(self.people)
            self.people.append((np.asarray(box, np.float32), None))

    def paste(self, cutout, x, foot, height, rng, gain=1.0):
        """Pastes one person with feet at (x, foot); people already there with lower feet stay in front."""
        scale = height / cutout.height
        mirrored = rng.random() < 0.5
        size = (max(int(round(cutout.pixels.shape[1] * scale)), 3), max(int(round(cutout.pixels.shape[0] * scale)), 6))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = redress(cv2.resize(cutout.pixels, size, interpolation=how), rng) * gain
        alpha = cv2.resize(cutout.alpha, size, interpolation=how)
        if mirrored:
            pixels, alpha = pixels[:, ::-1], alpha[:, ::-1]
        left, top = int(round(x - size[0] / 2)), int(round(foot - size[1] + 2 * scale))
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + size[0], footage.WIDTH), min(top + size[1], footage.HEIGHT)
        if x2 - x1 < 0.4 * size[0] or y2 - y1 < 0.6 * size[1]:
            return
        pixels = pixels[y1 - top:y2 - top, x1 - left:x2 - left]
        alpha = alpha[y1 - top:y2 - top, x1 - left:x2 - left].copy()
        columns, rows = np.nonzero((alpha > 0.5).any(0))[0], np.nonzero((alpha > 0.5).any(1))[0]
        if len(columns) < 3 or len(rows) < 6:
            return
        area = float((alpha > 0.5).sum()) / max((x2 - x1) / size[0], 0.1)
        box = np.array([x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1], np.float32)
        owner = self.owner[y1:y2, x1:x2]
        for i in np.unique(owner[owner >= 0]):
            if self.people[i][0][3] > foot:
                alpha[owner == i] = 0
        target = self.picture[y1:y2, x1:x2]
        target[:] = np.clip(target * (1 - alpha[..., None]) + pixels * alpha[..., None], 0, 255).astype(np.uint8)
        owner[alpha > 0.5] = len(self.people)
        self.people.append((box, area))

    def cover(self, scenery):
        """Puts the lamp post back in front of everybody who stands beyond it."""
        owner = self.owner[POST_AREA]
        hidden = POST_MASK[POST_AREA] > 0
        for i, (box, _) in enumerate(self.people):
            if box[3] > POST_FOOT:
                hidden &= owner != i
        self.picture[POST_AREA][hidden] = scenery[POST_AREA][hidden]
        owner[hidden] = -1

    def labels(self, least_visible=0.2):
        """Boxes of everybody visible enough, farthest first; the rest becomes regions to ignore."""
        shown, ignored = [], list(self.ignored)
        for i, (box, area) in enumerate(self.people):
            if area is not None and (self.owner == i).sum() < least_visible * area:
                ignored.append(box)
            else:
                shown.append(box)
        return sorted(shown, key=lambda b: b[3]), ignored


class Generator:
    """Makes picture number n: uint8 RGB at the network's input size, boxes and ignored regions in its pixels."""

    def __init__(self, frames, labels, scene, masks, height_model):
        self.frames, self.labels, self.scene, self.masks = frames, labels, scene, masks
        self.height_model = height_model
        self.ignored = [ignored_regions(mask, row) for mask, row in zip(masks, labels)]
        self.cutouts = cut_out(frames, labels, masks)
        if len(self.cutouts) < 100:
            raise ValueError(f"only {len(self.cutouts)} people could be cut out, want at least 100")

    def compose(self, rng):
        """A picture at the footage's size: a frame as it is, a frame with more people, or the empty scene filled."""
        kind = rng.random()
        index = int(rng.integers(len(self.frames)))
        if kind < 0.65:
            scene = Scene(self.frames[index].copy(), [b for _, b in self.labels[index]], self.masks[index])
            scene.ignored = self.ignored[index]
            extra = 0 if kind < 0.35 else int(rng.integers(1, 8))
        else:
            scene = Scene(self.scene.copy(), [], self.masks[index])
            extra = int(rng.integers(0, 16))
        # Farthest first, as painters do.
        places = sorted((self.place(rng) for _ in range(extra)), key=lambda p: p[1])
        places = self.with_company(rng, places)
        gain = rng.uniform(0.9, 1.1)
        for x, foot in places:
            height = self.height_model(x, foot) * rng.uniform(0.9, 1.1)
            near = [c for c in (self.cutouts[i] for i in rng.integers(len(self.cutouts), size=4))]
            # Of a few at random take the one that needs the least resizing, so that sharpness stays natural.
            cutout = min(near, key=lambda c: abs(np.log(height / c.height)))
            scene.paste(cutout, x, foot, height, rng, gain * rng.uniform(0.9, 1.1))
        if extra:
            scene.cover(self.scene)
        return scene.picture, *scene.labels()

    def place(self, rng):
        """Where a pasted person stands: mostly where people walk in the footage, sometimes anywhere on the ground."""
        if rng.random() < 0.7:
            cutout = self.cutouts[int(rng.integers(len(self.cutouts)))]
            x, foot = cutout.x + rng.normal(0, 30), cutout.foot + rng.normal(0, 15)
            if rng.random() < 0.12:
                x, foot = rng.uniform(400, 460), rng.uniform(200, 340)  # behind the post
        else:
            x, foot = rng.uniform(0, footage.WIDTH), rng.uniform(85, 480)
        return float(x), float(np.clip(foot, 80, 540))

    def with_company(self, rng, places):
        """Gives some people a companion next to them or partly behind them."""
        company = []
        for x, foot in places:
            company.append((x, foot))
            if rng.random() < 0.35:
                height = self.height_model(x, foot)
                company.append((x + rng.choice((-1, 1)) * height * rng.uniform(0.12, 0.5), foot + height * rng.normal(0, 0.12)))
        return sorted(company, key=lambda p: p[1])

    def __call__(self, seed, window=None):
        """Picture number `seed`, whole or only a window of (width, height) around somebody."""
        rng = np.random.default_rng(seed)
        picture, shown, ignored = self.compose(rng)
        picture, moves = zoom(picture, rng)
        shown = [m for m in (moves(b) for b in shown) if m is not None]
        ignored = [m for m in (moves(b, least=0.0) for b in ignored) if m is not None]
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
            shown, ignored = mirror(shown), mirror(ignored)
        if window:
            picture, shown, ignored = cut_window(picture, shown, ignored, window, rng)
        return np.ascontiguousarray(degrade(picture, rng)[:, :, ::-1]), shown, ignored


def cut_window(picture, shown, ignored, window, rng):
    """A part of the picture with somebody in it: most of the scene is grass, from which there is little to learn."""
    width, height = window
    if shown and rng.random() < 0.9:
        box = shown[int(rng.integers(len(shown)))]
        centre = (box[:2] + box[2:]) / 2 + rng.uniform(-0.4, 0.4, 2) * window
    else:
        centre = rng.uniform(0, 1, 2) * (net.INPUT_WIDTH, net.INPUT_HEIGHT)
    # Multiples of 8 keep the window on the JPEG's block grid.
    left = int(np.clip(centre[0] - width / 2, 0, net.INPUT_WIDTH - width)) // 8 * 8
    top = int(np.clip(centre[1] - height / 2, 0, net.INPUT_HEIGHT - height)) // 8 * 8
    inside, beyond = [], []
    for kind, row in ((inside, shown), (beyond, ignored)):
        for box in row:
            moved = box - np.array([left, top, left, top], np.float32)
            cut = bx.clip(moved, width, height)
            if cut[2] - cut[0] < 1 or cut[3] - cut[1] < 1:
                continue
            kept = (cut[2:] - cut[:2]).prod() / (moved[2:] - moved[:2]).prod()
            (kind if kept > 0.4 else beyond).append(cut)
    return picture[top:top + height, left:left + width], inside, beyond


def mirror(boxes):
    return [np.array([net.INPUT_WIDTH - b[2], b[1], net.INPUT_WIDTH - b[0], b[3]], np.float32) for b in boxes]


def zoom(picture, rng):
    """Scales to the network's input: the whole picture half of the time, else a part of it. Also returns the box map."""
    left, top, width, height = 0.0, 0.0, float(footage.WIDTH), float(footage.HEIGHT)
    if rng.random() < 0.5:
        share = rng.uniform(0.72, 1)
        width, height = width * share, height * min(share * rng.uniform(0.94, 1.06), 1)
        left, top = rng.uniform(0, footage.WIDTH - width), rng.uniform(0, (footage.HEIGHT - height) * 0.8)
    left, top, width, height = (int(round(v)) for v in (left, top, width, height))
    part = picture[top:top + height, left:left + width]
    if rng.random() < 0.3:
        part = cv2.GaussianBlur(part, (0, 0), rng.uniform(0.4, 1.1))
    small = cv2.resize(part, (net.INPUT_WIDTH, net.INPUT_HEIGHT), interpolation=int(rng.choice(RESIZERS)))
    sx, sy = net.INPUT_WIDTH / width, net.INPUT_HEIGHT / height

    def moves(box, least=0.4):
        moved = np.array([(box[0] - left) * sx, (box[1] - top) * sy, (box[2] - left) * sx, (box[3] - top) * sy], np.float32)
        cut = bx.clip(moved, net.INPUT_WIDTH, net.INPUT_HEIGHT)
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            return None
        kept = (cut[2:] - cut[:2]).prod() / (moved[2:] - moved[:2]).prod()
        return cut if kept > least else None

    return small, moves


def degrade(picture, rng):
    """What a camera, an encoder and a JPEG hop do: light, contrast, colour, noise, compression."""
    out = picture.astype(np.float32)
    if rng.random() < 0.8:
        out = out * rng.uniform(0.75, 1.25) + rng.uniform(-20, 20)
        mean = out.mean()
        out = (out - mean) * rng.uniform(0.8, 1.2) + mean
    if rng.random() < 0.5:
        out *= rng.uniform(0.93, 1.07, 3)
    if rng.random() < 0.3:
        grey = out.mean(axis=2, keepdims=True)
        out = grey + (out - grey) * rng.uniform(0.6, 1.3)
    if rng.random() < 0.3:
        out += rng.normal(0, rng.uniform(1, 5), out.shape)
    out = np.clip(out, 0, 255).astype(np.uint8)
    if rng.random() < 0.85:
        _, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 97))])
        out = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return out
