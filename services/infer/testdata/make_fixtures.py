#!/usr/bin/python3
"""Makes the small ONNX files beside it: python3-onnx 1.12 (Debian 12), run once, results committed.

All but the odd ones compute what infer.Fake computes: pictures of 8x8, one person in the middle half whose score is the
mean of the input kept within 0 to 1.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent


def const(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


BOX = const("box", [[[2, 2, 6, 6]]])
ZERO, ONE = const("zero", 0), const("one", 1)
COLUMN = const("column", [-1, 1, 1], np.int64)
SCORE = [
    helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
    helper.make_node("Clip", ["mean", "zero", "one"], ["score"]),
]
ROW = [
    helper.make_node("Reshape", ["score", "column"], ["scores"]),
    helper.make_node("Mul", ["scores", "zero"], ["nothing"]),
    helper.make_node("Add", ["nothing", "box"], ["boxes"]),
    helper.make_node("Concat", ["boxes", "scores"], ["detections"], axis=2),
]


def save(name, nodes, shape=("N", 3, 8, 8), out=("N", 1, 5), extra=(), inputs=None, outputs=None):
    graph = helper.make_graph(
        nodes, name,
        inputs or [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        outputs or [helper.make_tensor_value_info("detections", TensorProto.FLOAT, out)],
        [BOX, ZERO, ONE, COLUMN, *extra],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="make_fixtures.py")
    made.ir_version = 8
    onnx.checker.check_model(made, full_check=True)
    path = HERE / f"{name}.onnx"
    onnx.save(made, path)
    assert path.stat().st_size < 5000, path


save("person", SCORE + ROW)
save("person_nhwc", SCORE + ROW, shape=("N", 8, 8, 3))
save("person_fixed1", SCORE + ROW, shape=(1, 3, 8, 8), out=(1, 1, 5))
save("person_fixed4", SCORE + ROW, shape=(4, 3, 8, 8), out=(4, 1, 5))
save("person_open", SCORE + ROW, shape=("N", 3, 8, 8), out=("N", "A", "five"))

# 0/0 for every picture; and the root of a negative number for bright ones.
save("nan", SCORE[:1] + [
    helper.make_node("Mul", ["mean", "zero"], ["no"]), helper.make_node("Div", ["no", "no"], ["score"]),
] + ROW)
save("nan_when_bright", SCORE[:1] + [
    helper.make_node("Sub", ["limit", "mean"], ["left"]), helper.make_node("Sqrt", ["left"], ["score"]),
] + ROW, extra=[const("limit", 0.9)])

# Says [N,1,5] for every N, but folds the batch into the detections.
save("folds_batch", SCORE + ROW[:3] + [
    helper.make_node("Concat", ["boxes", "scores"], ["rows"], axis=2),
    helper.make_node("Reshape", ["rows", "fold"], ["detections"]),
], out=("N", "A", 5), extra=[const("fold", [1, -1, 5], np.int64)])

save("seven_columns", SCORE + ROW[:3] + [
    helper.make_node("Concat", ["boxes", "scores", "scores", "scores"], ["detections"], axis=2),
], out=("N", 1, 7))

save("two_inputs", [
    helper.make_node("Add", ["a", "b"], ["images"]), *SCORE, *ROW,
], inputs=[helper.make_tensor_value_info(n, TensorProto.FLOAT, ("N", 3, 8, 8)) for n in "ab"])

save("uint8_input", [helper.make_node("Cast", ["raw"], ["images"], to=TensorProto.FLOAT), *SCORE, *ROW],
     inputs=[helper.make_tensor_value_info("raw", TensorProto.UINT8, ("N", 3, 8, 8))])

save("int64_output", [
    *SCORE, *ROW[:3], helper.make_node("Concat", ["boxes", "scores"], ["rows"], axis=2),
    helper.make_node("Cast", ["rows"], ["detections"], to=TensorProto.INT64),
], outputs=[helper.make_tensor_value_info("detections", TensorProto.INT64, ("N", 1, 5))])

# Three convolutions over a large picture: long enough to be cancelled in the middle.
KERNEL = const("kernel", np.full((3, 3, 7, 7), 1 / 147))
CONV = [helper.make_node("Conv", [f"c{i}", "kernel"], [f"c{i + 1}"], pads=[3, 3, 3, 3]) for i in range(40)]
save("slow", [helper.make_node("Identity", ["images"], ["c0"]), *CONV,
              helper.make_node("ReduceMean", ["c40"], ["mean"], axes=[1, 2, 3], keepdims=0), SCORE[1], *ROW],
     shape=("N", 3, 512, 512), extra=[KERNEL])
