"""The hybrid: boxes of any detector, masks from label maps."""

import numpy as np
import pytest
import torch

from blemish.decoding import decode
from blemish.errors import BadRecipe, BadWeights, UnknownName
from blemish.geometry import mask_to_array
from blemish.model_file import Contract, DecoderSpec, LabelSpec
from blemish.models import create, describe
from blemish.models._weights import find_weights, load_weights
from blemish.models.architectures.hybrid import dice_loss, label_maps
from blemish.preprocessing import Placement
from blemish.structures import Task

pytest.importorskip("segmentation_models_pytorch")
SMALL = {
    "detector": "ssd300-resnet50",
    "detector_options": {"backbone": "resnet18"},
    "input_size": 64,
    "encoder": "resnet18",
    "mask_size": (64, 96),
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create("hybrid", task="segmentation", label_count=2, **SMALL)


def test_what_is_said_of_its_boxes_reaches_them():
    said = {"min_score": 0.2, "nms_iou": 0.3, "max_detections": 7}
    settings = create("hybrid", task="segmentation", label_count=2, **SMALL, **said).decoder.settings
    assert (settings["min_score"], settings["nms_iou"], settings["max_detections"]) == (0.2, 0.3, 7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask_size": 0}, "mask_size"),
        ({"mask_size": (64, -32)}, "mask_size"),
        ({"input_size": 0}, "input_size"),
        ({"encoder": "mit_b0"}, "unetplusplus cannot be built on mit_b0"),
    ],
)
def test_what_cannot_be_built_is_named(options, said):
    with pytest.raises(BadRecipe, match=said):
        create("hybrid", task="segmentation", label_count=2, **{**SMALL, **options})


def some_targets():
    mask = torch.zeros(1, 64, 96, dtype=torch.uint8)
    mask[:, 10:40, 10:50] = 1
    one = {"boxes": torch.tensor([[6.0, 10, 33, 40]]), "labels": torch.tensor([1]), "masks": mask}
    clean = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 96, dtype=torch.uint8),
    }
    return [one, clean]


def test_both_parts_learn(network):
    network.train()
    inputs = [torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 96)]
    parts = network.loss(inputs, some_targets())
    assert set(parts) == {"box_loss", "label_loss", "mask_loss"}
    sum(parts.values()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    covered = [p for stage in network.stages for p in network.parameters_of(stage)]
    assert len(covered) == len(list(network.parameters()))


def test_label_maps_join_the_objects_of_a_label():
    target = some_targets()[0]
    twice = {"labels": torch.tensor([1, 1]), "masks": torch.cat([target["masks"], target["masks"].flip(2)])}
    maps = label_maps(twice, 2, torch.zeros(1, 2, 64, 96))
    assert maps[0].sum() == 0
    assert torch.equal(maps[1] > 0, (target["masks"][0] | target["masks"][0].flip(1)) > 0)


def test_dice_equals_a_slow_sum_and_leaves_absent_labels_out():
    torch.manual_seed(0)
    logits, wanted = torch.randn(2, 3, 4, 5), (torch.rand(2, 3, 4, 5) > 0.5).float()
    wanted[:, 2] = 0
    shares = logits.sigmoid()
    losses = [
        1 - 2 * (shares[:, i] * wanted[:, i]).sum() / (shares[:, i].sum() + wanted[:, i].sum())
        for i in (0, 1)
    ]
    torch.testing.assert_close(dice_loss(logits, wanted), sum(losses) / 2)
    assert dice_loss(logits, torch.zeros_like(wanted)) == 0
    smp = pytest.importorskip("segmentation_models_pytorch")
    whole = (torch.rand(2, 3, 4, 5) > 0.5).float()
    theirs = smp.losses.DiceLoss("multilabel")(logits, whole)
    torch.testing.assert_close(dice_loss(logits, whole), theirs, rtol=1e-4, atol=1e-5)


def test_a_mask_is_its_labels_map_inside_the_box_and_an_empty_one_drops_nothing(network):
    contract = Contract(
        architecture="hybrid",
        task=Task.SEGMENTATION,
        labels=(LabelSpec(name="a", display_name="A"), LabelSpec(name="b", display_name="B")),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=DecoderSpec(name="label-maps", settings={"boxes": "dense", "min_score": 0.1}),
    )
    boxes = np.array([[[0, 0, 32, 32], [32, 32, 64, 64]]], np.float32)
    scores = np.array([[[0.9, 0], [0, 0.8]]], np.float32)
    maps = np.full((1, 2, 64, 96), -9, np.float32)
    maps[0, 0, :16] = 9  # label a: the upper quarter of the whole image
    outputs = {"boxes": boxes, "scores": scores, "label_maps": maps}
    placement = Placement((128, 128), (64, 64), (0.5, 0.5), (0.0, 0.0))
    found = decode(contract, outputs, [placement])[0]
    assert found.task is Task.SEGMENTATION
    assert found.label_index.tolist() == [0, 1]
    upper = mask_to_array(found.masks[0])
    assert upper[:32, :64].mean() > 0.95
    assert upper.sum() == upper[:33, :64].sum()
    assert found.masks[1].area == 0


def test_outputs_are_the_detectors_and_the_maps(network):
    network.eval()
    with torch.no_grad():
        scores, boxes, maps = network(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 96))
    assert scores.shape[:2] == boxes.shape[:2]
    assert maps.shape == (2, 2, 64, 96)
    assert [spec.name for spec in network.inputs] == ["image", "mask_image"]


def test_impossible_options_are_refused():
    with pytest.raises(BadRecipe, match="resnet18 finds no boxes"):
        create("hybrid", task="segmentation", label_count=1, detector="resnet18")
    with pytest.raises(UnknownName, match="did you mean 'resnet18'"):
        create("hybrid", task="segmentation", label_count=1, **{**SMALL, "encoder": "resnet1 8"})
    with pytest.raises(BadRecipe, match="multiples of 32"):
        create("hybrid", task="segmentation", label_count=1, **{**SMALL, "mask_size": 100})


def test_a_file_of_the_detector_alone_is_enough_and_its_license_is_named(network, tmp_path):
    detector = create(
        "ssd300-resnet50", task="detection", label_count=2, input_size=64, **SMALL["detector_options"]
    )
    file = tmp_path / "detector.pth"
    torch.save(detector.state_dict(), file)
    twin = create("hybrid", task="segmentation", label_count=2, **SMALL)
    (report,) = load_weights(twin, [file])
    assert {n for n in twin.state_dict() if n.startswith("detector.")} <= {
        *report.loaded,
        *(n for n in twin.state_dict() if n.endswith("num_batches_tracked")),
    }
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, file)
    with pytest.raises(BadWeights, match="another architecture"):
        load_weights(twin, [file])
    assert "AGPL" not in network.code_license
    assert describe("ssd300-resnet50").license in network.code_license


def test_default_weights_are_those_of_the_encoder_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    files = {"resnet18": "resnet18-f37072fd.pth", "resnet50": "resnet50-11ad3fa6.pth"}
    (tmp_path / "checkpoints").mkdir()
    for file in files.values():
        (tmp_path / "checkpoints" / file).touch()
    detector = {"detector": "fasterrcnn-resnet50-fpn"}
    for encoder, wanted in (("resnet18", {"resnet18", "resnet50"}), ("mit_b0", {"resnet50"})):
        found = find_weights("hybrid", "default", {**detector, "encoder": encoder})
        assert {path.name for path in found} == {files[name] for name in wanted}
    assert len(find_weights("hybrid", "default", detector)) == 1  # one file fills both


def test_a_detector_that_began_at_random_learns_whole_here_too():
    settings = {**SMALL, "detector": "fasterrcnn-resnet50-fpn", "detector_options": {}}
    made = create("hybrid", task="segmentation", label_count=2, **settings)
    assert not all(p.requires_grad for p in made.detector.parameters())
    load_weights(made, ())
    assert all(p.requires_grad for p in made.detector.parameters())
