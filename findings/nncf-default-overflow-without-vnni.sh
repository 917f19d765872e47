#!/usr/bin/env bash
# NNCF's default INT8 quantization for CPUs protects only the first layer from overflow: on processors without VNNI,
# OpenVINO adds two 8-bit products in 16 bits, which saturate, and later layers lose accuracy without a warning. The
# same model is exact on a processor with VNNI, so a test there does not show it. OverflowFix.ENABLE, which gives
# weights 7 bits in every layer, has the same small error on both.
# oneDNN's limit ONEDNN_MAX_CPU_ISA=AVX2 makes an x86-64 processor with VNNI compute as one without it.
# Prints versions and the mean error of the outputs; exits with 1 when the behavior changes. Needs x86-64 with AVX2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nncf==3.4.0 openvino==2026.4.1 numpy==2.4.6
cat > "$folder/errors.py" <<'PYTHON'
import json
import logging

import nncf
import numpy as np
import openvino as ov
from openvino import opset13 as op

nncf.set_log_level(logging.ERROR)
rng = np.random.default_rng(0)


def network():
    """Three convolutions with positive weights, each followed by a ReLU, and the mean of each channel."""
    image = value = op.parameter([1, 3, 32, 32], np.float32, name="image")
    channels = 3
    for outputs in (16, 16, 16):
        weight = np.abs(rng.normal(0, 1, (outputs, channels, 3, 3))).astype(np.float32) / (channels * 9)
        value = op.relu(op.convolution(value, op.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1]))
        channels = outputs
    return ov.Model([op.result(op.reduce_mean(value, op.constant(np.array([2, 3])), False))], [image], "network")


def outputs(model):
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(image)[0] for image in images])


model = network()
images = [rng.uniform(0.8, 1, (1, 3, 32, 32)).astype(np.float32) for _ in range(32)]
expected = outputs(model)
errors = {}
for name, fix in (("default", None), ("OverflowFix.ENABLE", nncf.OverflowFix.ENABLE)):
    advanced = None if fix is None else nncf.AdvancedQuantizationParameters(overflow_fix=fix)
    quantized = nncf.quantize(model, nncf.Dataset(images), advanced_parameters=advanced, subset_size=32)
    errors[name] = float(np.abs(outputs(quantized) - expected).mean() / np.abs(expected).mean())
print(json.dumps(errors))
PYTHON
"$folder/venv/bin/python" -c "import nncf, openvino; print('NNCF', nncf.__version__, 'OpenVINO', openvino.__version__)"
for isa in DEFAULT AVX2; do
    ONEDNN_MAX_CPU_ISA=$isa "$folder/venv/bin/python" "$folder/errors.py" 2> /dev/null | tail -n 1 > "$folder/$isa.json"
    echo "mean error, ONEDNN_MAX_CPU_ISA=$isa: $(cat "$folder/$isa.json")"
done
"$folder/venv/bin/python" - "$folder/AVX2.json" <<'PYTHON'
import json
import sys

errors = json.load(open(sys.argv[1]))
sys.exit(not errors["default"] > 5 * errors["OverflowFix.ENABLE"])
PYTHON
