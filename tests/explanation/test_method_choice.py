"""The choice of the default explanation, on a network whose only evidence is one bright corner."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blemish.explanation import EXPLAINERS, Explainer, ExplanationMethod, Requirement
from blemish.explanation.heatmap import Heatmap
from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.explanation.method_choice import FINALISTS, choose_images, record_choice, score_methods
from blemish.inference import DeviceKind
from blemish.model_file import (
    Contract,
    DecoderSpec,
    ExplanationChoice,
    InputSpec,
    LabelSpec,
    OutputSpec,
    read_model_file,
    write_model_file,
)
from blemish.structures import GroundTruth, Labels, Sample, Task

SPEC = InputSpec(name="image", size_hw=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
LABELS = Labels(("corner", "rest"))
CONTRACT = Contract(
    architecture="x",
    task=Task.CLASSIFICATION,
    labels=(LabelSpec(name="corner", display_name="Corner"), LabelSpec(name="rest", display_name="Rest")),
    inputs=(SPEC,),
    outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
    decoder=DecoderSpec(name="scores"),
)
EMPTY_GRAPH = b"\x08\x09\x3a\x00"  # a ModelProto with its version and an empty graph


class CornerNetwork:
    """The first logit is the brightness of the upper left corner, compared with the rest of the image."""

    name, precision, device_kind = "corner", "fp64", DeviceKind.CPU

    def run(self, feeds):
        (batch,) = feeds.values()
        logit = 30 * (batch[:, :, :8, :8].mean((1, 2, 3)) - batch.mean((1, 2, 3)))
        return {"logits": np.stack([logit, -logit], 1).astype(np.float32)}


class Layers:
    """Two layers: `right` points at the corner, `wrong` at the opposite one."""

    layers: tuple[str, ...] = ("wrong", "right")
    output_count = 2

    def receptive_grid(self, layer):
        return ReceptiveGrid((0.125, 0.125), (0.25, 0.25))

    def features_and_gradients(self, feeds, selector, near_xyxy=None):
        features = np.zeros((2, len(selector), 1, 4, 4), np.float32)
        features[0, :, 0, 3, 3] = features[1, :, 0, 0, 0] = 1
        return list(features), list(np.ones_like(features))


@pytest.fixture
def samples(tmp_path):
    pixels = np.full((40, 40, 3), 40, np.uint8)
    pixels[:10, :10] = 250
    path = tmp_path / "corner.png"
    Image.fromarray(pixels).save(path)
    ground_truth = GroundTruth(
        task=Task.CLASSIFICATION, labels=LABELS, size_hw=(40, 40), label_index=np.array([0])
    )
    return [Sample(id=f"{n}", path=path, size_hw=(40, 40), ground_truth=ground_truth) for n in range(2)]


@pytest.fixture
def explainer(tmp_path):
    file = write_model_file(tmp_path / "model.onnx", EMPTY_GRAPH, CONTRACT)
    return Explainer(CornerNetwork(), file, gradients=Layers())


def test_score_methods_ranks_the_layer_that_points_at_the_evidence_first(explainer, samples):
    scores, count = score_methods(explainer, "corner", samples)
    assert count == 2 and scores[0].layer == "right"
    assert scores[0].insertion - scores[0].deletion > scores[-1].insertion - scores[-1].deletion
    assert len(scores) == FINALISTS
    assert "eigen-cam" not in {s.method for s in scores}  # the same map for every label


def test_score_methods_leaves_unreadable_images_out(explainer, samples, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = replace(samples[0], path=tmp_path / "broken.png")
    assert score_methods(explainer, "corner", [broken, samples[1]])[1] == 1
    assert score_methods(explainer, "corner", [broken]) == ([], 0)


def test_record_choice_is_what_explain_uses_by_default(explainer, samples):
    file = record_choice(explainer, samples)
    choice = read_model_file(file.path).contract.explanation["corner"]
    assert choice.layer == "right" and choice.images == 2 and choice.insertion > choice.deletion
    assert file.graph_digest == explainer.model_file.graph_digest
    chosen = Explainer(CornerNetwork(), file, gradients=Layers())
    (heatmap,) = chosen.explain(samples[0].path, label="corner")
    assert (heatmap.method, heatmap.layer) == (choice.method, "right")
    assert max(heatmap.peak_xy) < 15 and heatmap.is_faithful


def test_default_method_of_a_file_without_choice_is_grad_cam(explainer):
    assert explainer.default_method() == "grad-cam" and explainer.default_layer("grad-cam") is None


def test_default_method_of_a_missing_plugin_is_grad_cam(explainer):
    contract = CONTRACT.model_copy(
        update={"explanation": {"corner": ExplanationChoice(method="not-installed")}}
    )
    file = write_model_file(explainer.model_file.path, EMPTY_GRAPH, contract)
    assert Explainer(CornerNetwork(), file, gradients=Layers()).default_method() == "grad-cam"


def test_record_choice_without_ground_truth_leaves_the_file(explainer, samples):
    unlabeled = [replace(s, ground_truth=None) for s in samples]
    assert record_choice(explainer, unlabeled).contract.explanation == {}


def test_choose_images_takes_few_images_of_each_label(samples):
    rest = GroundTruth(task=Task.CLASSIFICATION, labels=LABELS, size_hw=(40, 40), label_index=np.array([1]))
    others = [replace(samples[0], id=f"r{n}", ground_truth=rest) for n in range(40)]
    assert [len(images) for images in choose_images([*others, *samples], 2)] == [2, 4]
    assert sum(len(images) for images in choose_images([*others, *samples], 40)) == 2


@pytest.mark.parametrize(
    ("score", "deletion", "insertion", "expected"),
    [
        (0.9, 0.4, 0.7, True),
        (
            0.9,
            0.7,
            0.4,
            False,
        ),  # showing the highest values first raises the score later than hiding lowers it
        (0.5, 0.6, 0.8, False),  # hiding them raises the score
        (0.9, None, None, None),  # not measured
    ],
)
def test_is_faithful_compares_deletion_with_score_and_insertion(score, deletion, insertion, expected):
    values = np.ones((2, 2), "f4")
    heatmap = Heatmap(
        method="m",
        label="x",
        label_index=0,
        layer="",
        values=values,
        score=score,
        deletion=deletion,
        insertion=insertion,
    )
    assert heatmap.is_faithful is expected and heatmap.to_dict()["is_faithful"] is expected


def test_every_registered_method_states_whether_it_depends_on_the_label():
    assert not EXPLAINERS.get("eigen-cam").depends_on_label
    assert all(EXPLAINERS.get(name).depends_on_label for name in ("grad-cam", "hires-cam", "layer-cam"))
    assert ExplanationMethod("x", lambda m: np.zeros((1, 1)), Requirement.ANY_MODEL).depends_on_label
