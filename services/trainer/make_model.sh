#!/bin/sh
# Rebuilds the person model from the footage: labels it, trains, exports, measures.
#
#   services/trainer/make_model.sh path/to/vtest.avi models/person [--steps N]
#
# Writes 1/model.onnx, golden.json and metrics.json into the given model folder. Needs Debian's python3-torch,
# python3-onnx and python3-opencv; PYTHON names another interpreter that has them.
set -eu
if [ $# -lt 2 ]; then
	echo "usage: $0 VTEST_AVI MODEL_FOLDER [--steps N] [--threads N]" >&2
	exit 2
fi
# OpenMP threads that spin while they wait make a busy machine eight times slower.
export OMP_WAIT_POLICY=passive
exec "${PYTHON:-/usr/bin/python3}" -u "$(dirname "$0")/train.py" "$@"
