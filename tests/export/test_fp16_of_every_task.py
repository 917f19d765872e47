"""Half precision of a network of every task: half the bytes, float32 at both ends, the same decisions."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from blemish.export.fp16 import MAX_SIZE_SHARE, to_half
from blemish.export.onnx_export import export_network
from blemish.models import create

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("resnet18", {"input_size": 64}),
    "multilabel": ("torchvision/mobilenet_v2", {"input_size": 64}),
    "localization": ("resnet18-scratch", {"input_size": 64}),
    "detection": ("ssd300-resnet50", {"input_size": 96, "backbone": "resnet18"}),
    "segmentation": ("maskrcnn-resnet18-fpn", {"input_size": 96, "proposals": 50, "max_detections": 10}),
}


def session(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("task", CASES)
def test_to_half_halves_the_size_and_keeps_float32_inputs_and_outputs(task):
    name, options = CASES[task]
    torch.manual_seed(0)
    network = create(name, task=task, label_count=3, **options).eval()
    whole = export_network(network)
    half = to_half(whole)
    assert len(half) <= MAX_SIZE_SHARE * len(whole)
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    generator = np.random.default_rng(0)
    feeds = {
        spec.name: generator.normal(size=(2, spec.channels, *spec.size_hw)).astype(np.float32)
        for spec in network.inputs
    }
    before, after = session(whole), session(half)
    assert [i.type for i in after.get_inputs()] == ["tensor(float)"] * len(feeds)
    assert [(o.name, o.type) for o in after.get_outputs()] == [(o.name, o.type) for o in before.get_outputs()]
    pairs = zip(before.get_outputs(), before.run(None, feeds), after.run(None, feeds), strict=True)
    for output, first, second in pairs:
        assert second.shape == first.shape and np.isfinite(second).all()
        if output.name in ("logits", "box", "scores"):
            assert np.ptp(first) > 0
            assert 0 < np.abs(first - second).max() < 0.02 * np.abs(first).max() + 1e-3
