"""Writes a trained detector as ONNX and checks the file."""

import pathlib
import warnings

import onnx
import torch

import net


def export(detector, path):
    """Exports opset 13 with a dynamic batch axis; raises if the checker refuses the file or it is 1 MB or more."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    deployed = net.Deployed(detector.eval()).eval()
    example = torch.zeros(1, 3, net.INPUT_HEIGHT, net.INPUT_WIDTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deployed, example, str(path), opset_version=13, input_names=["images"], output_names=["detections"],
            dynamic_axes={"images": {0: "batch"}, "detections": {0: "batch"}},
        )
    onnx.checker.check_model(str(path), full_check=True)
    if path.stat().st_size >= 1_000_000:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, want less than 1 MB")
    return deployed
