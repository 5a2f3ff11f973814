"""The detector: a small anchor-free network with one output level at stride 4, and its loss.

People in the footage are 15 to 50 input pixels tall and often stand next to each other, so one fine level (stride 4)
separates neighbours better than a pyramid of coarse ones; context reaches it from stride 16 through two upsamplings.
"""

import torch
from torch import nn
from torch.nn import functional as F

INPUT_WIDTH, INPUT_HEIGHT = 320, 240
STRIDE = 4
# The size, in input pixels, of an average person: the network predicts logarithms relative to it.
BASE_WIDTH, BASE_HEIGHT = 11.0, 28.0


def conv(inputs, outputs, stride=1, kernel=3, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        return F.relu(x + self.second(self.first(x)))


class Detector(nn.Module):
    """images [N,3,H,W] in 0..1, RGB -> five maps [N,5,H/4,W/4]: score logit, centre dx dy, log width, log height."""

    def __init__(self, widths=(16, 16, 48, 64, 32)):
        super().__init__()
        c2, c4, c8, c16, head = widths
        self.stem = conv(3, c2, 2)
        self.down4 = nn.Sequential(conv(c2, c4, 2), conv(c4, c4))
        self.down8 = nn.Sequential(conv(c4, c8, 2), Residual(c8))
        self.down16 = nn.Sequential(conv(c8, c16, 2), Residual(c16), conv(c16, c16))
        self.lift16 = nn.Conv2d(c16, c8, 1)
        self.fuse8 = conv(c8, c8)
        self.lift8 = nn.Conv2d(c8, head, 1)
        self.skip4 = nn.Conv2d(c4, head, 1)
        self.fuse4 = conv(head, head)
        self.out = nn.Conv2d(head, 5, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        self.out.bias.data[0] = -4.0  # most cells are empty: start near a score of 0.02

    def forward(self, images):
        x4 = self.down4(self.stem(images))
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x8 = self.fuse8(F.relu(x8 + F.interpolate(self.lift16(x16), scale_factor=2.0, mode="nearest")))
        x4 = F.relu(self.skip4(x4) + F.interpolate(self.lift8(x8), scale_factor=2.0, mode="nearest"))
        return self.out(self.fuse4(x4))


def cell_centres(height, width):
    """Centres of the output cells in input pixels, two [1, height, width] tensors."""
    ys = (torch.arange(height, dtype=torch.float32) + 0.5) * STRIDE
    xs = (torch.arange(width, dtype=torch.float32) + 0.5) * STRIDE
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return x[None], y[None]


def decode(maps, centres):
    """Turns the box maps into x1, y1, x2, y2 maps [N,4,h,w] in input pixels."""
    cx = centres[0] + maps[:, 1] * STRIDE
    cy = centres[1] + maps[:, 2] * STRIDE
    half_w = torch.exp(maps[:, 3]) * (BASE_WIDTH / 2)
    half_h = torch.exp(maps[:, 4]) * (BASE_HEIGHT / 2)
    return torch.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], dim=1)


class Deployed(nn.Module):
    """The network as shipped: boxes decoded in the graph, `detections` [N, cells, 5] = x1, y1, x2, y2, score."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector
        x, y = cell_centres(INPUT_HEIGHT // STRIDE, INPUT_WIDTH // STRIDE)
        self.register_buffer("x", x)
        self.register_buffer("y", y)

    def forward(self, images):
        maps = self.detector(images)
        boxes = decode(maps, (self.x, self.y))
        rows = torch.cat([boxes, torch.sigmoid(maps[:, :1])], dim=1)
        return rows.flatten(2).transpose(1, 2)


def giou(a, b):
    """IoU and generalised IoU of paired boxes [n,4]."""
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - overlap
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = overlap / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def loss(maps, truth):
    """Quality focal loss on the scores, GIoU on the boxes.

    `truth` comes from `targets`: owner boxes and closeness (1 at a body's centre, falling to 0) for every cell, and the
    weight of a cell (0 where nobody can say whether there is a person). A cell near a centre must score the IoU its own
    box reaches, so that non-maximum suppression keeps the best-placed of several boxes.
    """
    boxes, closeness, weight = truth
    decoded = decode(maps, cell_centres(maps.shape[2], maps.shape[3])).permute(0, 2, 3, 1)
    positive = (closeness > 0.45) & (weight > 0)
    iou, overlap = giou(decoded[positive], boxes[positive])
    near = closeness[positive]
    count = near.sum().clamp(min=1)
    box_loss = ((1 - overlap) * near).sum() / count
    logits = maps[:, 0]
    score = torch.sigmoid(logits)
    goal = torch.zeros_like(score)
    goal[positive] = iou.detach().clamp(0.1, 1)
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    focus = (goal - score.detach()).abs() ** 2
    # Cells beside a centre are nearly right: being wrong there costs less.
    lenient = torch.where(positive, torch.ones_like(closeness), (1 - closeness) ** 3)
    score_loss = (entropy * focus * lenient * weight).sum() / positive.sum().clamp(min=1)
    return 2.0 * score_loss + 1.5 * box_loss, score_loss.detach(), box_loss.detach()


def targets(boxes, ignored, width=INPUT_WIDTH // STRIDE, height=INPUT_HEIGHT // STRIDE):
    """What `loss` compares with, for one picture: owner boxes [h,w,4], closeness [h,w], weight [h,w].

    `boxes` [n,4] are in input pixels, farthest person first; `ignored` regions carry no weight, except where a labelled
    body's centre lies in them.
    """
    x, y = cell_centres(height, width)
    x, y = x[0], y[0]
    owner = torch.zeros(height, width, 4)
    closeness = torch.zeros(height, width)
    weight = torch.ones(height, width)
    for x1, y1, x2, y2 in ignored:
        weight[(x > x1) & (x < x2) & (y > y1) & (y < y2)] = 0
    for box in boxes:
        x1, y1, x2, y2 = (float(v) for v in box)
        cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        sigma_x, sigma_y = max(0.22 * w, 1.6), max(0.16 * h, 1.6)
        # At least the cell that holds the centre is positive, however small the person.
        near = torch.exp(-(((x - cx) / sigma_x) ** 2 + ((y - cy) / sigma_y) ** 2) / 2)
        column, row = int(cx / STRIDE), int(cy / STRIDE)
        if 0 <= row < height and 0 <= column < width:
            near[row, column] = max(float(near[row, column]), 0.9)
        mine = near > closeness
        closeness[mine] = near[mine]
        owner[mine] = torch.tensor([x1, y1, x2, y2])
        weight[near > 0.45] = 1
    return owner, closeness, weight
