"""Trains the person detector and writes model.onnx and metrics.json. One call does everything, from the footage on."""

import argparse
import copy
import math
import pathlib
import time

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import evaluate
import export
import footage
import golden
import label
import net
import synthesize

SEED = 20090624  # any number will do; this one makes runs comparable


# Most steps learn from windows, half a picture each; the last ones from whole pictures, so that the network (its batch
# statistics above all) ends with what it will meet.
WINDOW = (224, 160)
WHOLE_SHARE = 0.2


class Batches(Dataset):
    """Batch n of a stream that follows from the seed, so that the workers' order of arrival cannot change anything."""

    def __init__(self, generator, steps, batch):
        self.generator, self.steps, self.batch = generator, steps, batch

    def __len__(self):
        return self.steps

    def __getitem__(self, n):
        whole = n >= self.steps * (1 - WHOLE_SHARE)
        width, height = (net.INPUT_WIDTH, net.INPUT_HEIGHT) if whole else WINDOW
        count = self.batch // 2 if whole else self.batch
        rows = []
        for i in range(count):
            picture, shown, ignored = self.generator(SEED + n * self.batch + i, None if whole else WINDOW)
            truth = net.targets(shown, ignored, width // net.STRIDE, height // net.STRIDE)
            rows.append((torch.from_numpy(picture).permute(2, 0, 1), *truth))
        return tuple(torch.stack(column) for column in zip(*rows))


def train(generator, steps, batch, threads, report=100):
    """Returns the detector with exponentially averaged weights after `steps` steps."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    detector = net.Detector()
    average = copy.deepcopy(detector)
    decay = [p for p in detector.parameters() if p.ndim > 1]
    rest = [p for p in detector.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 1e-3}, {"params": rest, "weight_decay": 0.0}], lr=0.0)
    loader = DataLoader(Batches(generator, steps, batch), batch_size=None, num_workers=1, prefetch_factor=6)
    begin = time.time()
    detector.train()
    sums = np.zeros(3)
    for step, (pictures, boxes, closeness, weight) in enumerate(loader):
        warm = min(1.0, (step + 1) / 100)
        rate = 3e-3 * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        total, score, box = net.loss(detector(pictures.float() / 255), (boxes, closeness, weight))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
        blend(average, detector, min(0.998, (1 + step) / (10 + step)))
        sums += (float(total), float(score), float(box))
        if (step + 1) % report == 0:
            loss, score, box = sums / report
            sums[:] = 0
            print(f"step {step + 1}/{steps}  loss {loss:.3f}  score {score:.3f}  box {box:.3f}  {time.time() - begin:.0f} s", flush=True)
    return average.eval()


def blend(average, detector, keep):
    """Moves the averaged weights towards the current ones; batch statistics are averaged alike."""
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), detector.state_dict().values()):
            if a.dtype.is_floating_point:
                a.mul_(keep).add_(b, alpha=1 - keep)
            else:
                a.copy_(b)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", type=pathlib.Path, help="vtest.avi from Debian's package opencv-doc")
    parser.add_argument("output", type=pathlib.Path, help="folder of the model: 1/model.onnx, golden.json and metrics.json are written there")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    begin = time.time()
    cv2.setNumThreads(1)  # the worker that makes pictures must not fight the training threads
    frames = footage.read_frames(args.footage)
    labels, scene, masks, height_model = label.label(frames)
    end = footage.VALIDATION_START
    generator = synthesize.Generator(frames[:end], labels[:end], scene, masks[:end], height_model)
    print(f"{sum(map(len, labels[:end]))} boxes, {len(generator.cutouts)} cut-outs, {time.time() - begin:.0f} s", flush=True)
    detector = train(generator, args.steps, args.batch, args.threads)
    path = args.output / "1" / "model.onnx"
    deployed = export.export(detector, path)
    golden.write(deployed, args.output / "golden.json")
    metrics = evaluate.validate(path, frames)
    metrics["steps"] = args.steps
    metrics["seconds"] = round(time.time() - begin)
    (args.output / "metrics.json").write_text(evaluate.as_json(metrics))
    print(evaluate.as_json(metrics), end="")


if __name__ == "__main__":
    main()
