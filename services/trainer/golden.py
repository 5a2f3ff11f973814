"""Writes golden.json: what the exported model must answer to an input anybody can compute, for a check at load time."""

import json
import pathlib

import numpy as np
import torch

import net

# Rows all over the picture; on this input no score is high, but every layer takes part in every row.
ROWS = (0, 1, 79, 80, 1234, 2440, 3599, 4799)
TOLERANCE = {"box": 0.05, "score": 0.001}


def golden_input():
    """[1,3,H,W] with element i (flat, in NCHW order) equal to (i * 7919 mod 256) / 255."""
    count = 3 * net.INPUT_HEIGHT * net.INPUT_WIDTH
    values = (np.arange(count, dtype=np.int64) * 7919 % 256).astype(np.float32) / 255
    return torch.from_numpy(values.reshape(1, 3, net.INPUT_HEIGHT, net.INPUT_WIDTH))


def write(deployed, path):
    """Writes the expected rows and the sum over each column of all rows."""
    with torch.no_grad():
        rows = deployed(golden_input())[0].double().numpy()
    if not np.isfinite(rows).all():
        raise ValueError("the model answers with infinities")
    document = {
        "input": "images[0] flat in NCHW order: x[i] = ((i * 7919) mod 256) / 255, after preprocessing",
        "input_shape": [1, 3, net.INPUT_HEIGHT, net.INPUT_WIDTH],
        "output_shape": [1, len(rows), 5],
        "tolerance": TOLERANCE,
        "rows": {str(i): [round(float(v), 6) for v in rows[i]] for i in ROWS},
        "largest_score": round(float(rows[:, 4].max()), 6),
    }
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    pathlib.Path(path).write_text("{\n" + lines + "\n}\n")
