"""`blemish.testing.check_decoder` and `check_backend`."""

import numpy as np
import pytest

from blemish.decoding import DECODERS, decoder
from blemish.inference import open_backend
from blemish.inference.backend import Backend
from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.preprocessing import Placement
from blemish.structures import Task
from blemish.testing import check_backend, check_decoder

PLACEMENTS = [
    Placement((40, 80), (64, 64), (0.8, 0.8), (0.0, 16.0)),
    Placement((80, 40), (64, 64), (0.8, 0.8), (16.0, 0.0)),
    Placement((60, 60), (64, 64), (1.0, 1.0), (0.0, 0.0)),
]


@pytest.fixture
def scores(tiny):
    logits = np.random.default_rng(0).normal(0, 2, (3, 2)).astype(np.float32)
    return tiny.contract(), {"logits": logits}


@pytest.fixture
def boxes(tiny):
    rng = np.random.default_rng(1)
    corners = rng.uniform(-10, 74, (3, 60, 2, 2))
    xyxy = np.concatenate([corners.min(2), corners.max(2)], axis=2).astype(np.float32)
    contract = tiny.contract(
        task=Task.DETECTION,
        inputs=(InputSpec(size_hw=(64, 64)),),
        outputs=(
            OutputSpec(name="boxes", role="boxes"),
            OutputSpec(name="scores", role="scores", activation="probabilities"),
        ),
        decoder=DecoderSpec(name="dense"),
    )
    return contract, {"boxes": xyxy, "scores": rng.uniform(0, 1, (3, 60, 2)).astype(np.float32)}


def test_check_decoder_passes_on_scores(scores):
    contract, raw = scores
    check_decoder(contract, raw, PLACEMENTS)


def test_check_decoder_passes_on_dense_boxes(boxes):
    contract, raw = boxes
    check_decoder(contract, raw, PLACEMENTS)


def test_check_decoder_fails_on_boxes_outside_the_image(boxes):
    from dataclasses import replace

    @decoder("careless")
    def careless(contract, outputs, placements, detection_filter):
        known = contract.model_copy(update={"decoder": DecoderSpec(name="dense")})
        predictions = DECODERS.get("dense").function(known, outputs, placements, detection_filter)
        return [replace(p, boxes_xyxy=p.boxes_xyxy + 30) for p in predictions]

    contract, outputs = boxes
    try:
        careless_contract = contract.model_copy(update={"decoder": DecoderSpec(name="careless")})
        with pytest.raises(AssertionError, match="boxes: outside"):
            check_decoder(careless_contract, outputs, PLACEMENTS)
    finally:
        DECODERS.unregister("careless")


def test_check_decoder_needs_portrait_and_landscape_images(scores):
    contract, outputs = scores
    with pytest.raises(AssertionError, match="portrait"):
        check_decoder(contract, {"logits": outputs["logits"][:2]}, [PLACEMENTS[0], PLACEMENTS[0]])


def test_check_backend_passes_on_onnxruntime(tiny, tmp_path):
    file = tiny.write_scores_model(tmp_path / "m.onnx")
    check_backend("onnxruntime", file.path)


def test_check_backend_fails_on_wrong_outputs(tiny, tmp_path):
    file = tiny.write_scores_model(tmp_path / "m.onnx")

    class Wrong(Backend):
        name, precision = "wrong 1.0", "fp32"

        def __init__(self, model_file):
            self.right = open_backend(model_file, backend="onnxruntime")

        def run(self, feeds):
            return {k: v * 1.001 for k, v in self.right.run(feeds).items()}

    with pytest.raises(AssertionError, match="of the largest output"):
        check_backend("wrong", file.path, opened=Wrong)
