"""The hybrid: boxes of any detector, masks from label maps."""

from typing import Any

import numpy as np
import pytest
import torch

from blemish.config.schema import AugmentationConfig
from blemish.decoding import decode
from blemish.geometry import mask_to_array
from blemish.model_file import Contract, DecoderSpec, LabelSpec
from blemish.models import create, describe
from blemish.models._weights import find_weights, load_weights
from blemish.models.architectures.hybrid import dice_loss, label_maps
from blemish.preprocessing import Placement
from blemish.structures import Task
from blemish.testing import raises
from blemish.training.detection_dataset import check_network_augmentation

pytest.importorskip("segmentation_models_pytorch")
SMALL: dict[str, Any] = {
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


def test_options_of_boxes_reach_the_detector():
    options = {"min_score": 0.2, "nms_iou": 0.3, "max_detections": 7}
    settings = create("hybrid", task="segmentation", label_count=2, **SMALL, **options).decoder.settings
    assert (settings["min_score"], settings["nms_iou"], settings["max_detections"]) == (0.2, 0.3, 7)


@pytest.mark.parametrize(
    ("options", "reason", "fact"),
    [
        ({"mask_size": 0}, "invalid-option", "mask_size"),
        ({"mask_size": (64, -32)}, "invalid-option", "mask_size"),
        ({"input_size": 0}, "invalid-option", "input_size"),
        ({"encoder": "mit_b0"}, "unsuitable-encoder", "mit_b0"),
    ],
)
def test_create_names_an_option_that_cannot_be_built(options, reason, fact):
    with raises(f"bad-recipe.{reason}", fact):
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


def test_loss_gives_gradients_to_detector_and_masks(network):
    network.train()
    inputs = [torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 96)]
    parts = network.loss(inputs, some_targets())
    assert set(parts) == {"box_loss", "label_loss", "mask_loss"}
    sum(parts.values()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    covered = [p for stage in network.stages for p in network.parameters_of(stage)]
    assert len(covered) == len(list(network.parameters()))


def test_forward_and_loss_equal_forward_and_loss_called_one_by_one(network):
    network.eval()
    inputs = [torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 96)]
    with torch.no_grad():
        together, parts = network.forward_and_loss(inputs, some_targets())
        outputs, losses = network(*inputs), network.loss(inputs, some_targets())
    assert all(torch.equal(a, b) for a, b in zip(together, outputs, strict=True))
    assert {k: float(v) for k, v in parts.items()} == {k: float(v) for k, v in losses.items()}


def test_label_maps_merge_the_objects_of_a_label():
    target = some_targets()[0]
    twice = {"labels": torch.tensor([1, 1]), "masks": torch.cat([target["masks"], target["masks"].flip(2)])}
    maps = label_maps(twice, 2, torch.zeros(1, 2, 64, 96))
    assert maps[0].sum() == 0
    assert torch.equal(maps[1] > 0, (target["masks"][0] | target["masks"][0].flip(1)) > 0)


def test_dice_loss_equals_a_slow_sum_and_ignores_absent_labels():
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


def test_decode_cuts_the_label_map_to_the_box_and_keeps_empty_masks(network):
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


def test_forward_returns_the_detectors_outputs_and_the_maps(network):
    network.eval()
    with torch.no_grad():
        scores, boxes, maps = network(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 96))
    assert scores.shape[:2] == boxes.shape[:2]
    assert maps.shape == (2, 2, 64, 96)
    assert [spec.name for spec in network.inputs] == ["image", "mask_image"]


def test_create_refuses_impossible_options():
    with raises("bad-recipe.not-a-detector", "model.options.detector", "resnet18"):
        create("hybrid", task="segmentation", label_count=1, detector="resnet18")
    with raises("unknown-name.encoder", "resnet1 8", "'resnet18'"):
        create("hybrid", task="segmentation", label_count=1, **{**SMALL, "encoder": "resnet1 8"})
    with raises("bad-recipe.invalid-option", "model.options.mask_size", "multiples of 32", "100"):
        create("hybrid", task="segmentation", label_count=1, **{**SMALL, "mask_size": 100})


def test_load_weights_accepts_a_file_of_the_detector_alone(network, tmp_path):
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
    with raises("bad-weights.other-architecture", file):
        load_weights(twin, [file])
    assert not network.copyleft and "AGPL" not in network.code_license
    assert describe("ssd300-resnet50").license in network.code_license


def test_find_weights_follows_the_encoder_option(monkeypatch, tmp_path):
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


def test_a_detector_without_loaded_weights_is_not_frozen():
    settings = {**SMALL, "detector": "fasterrcnn-resnet50-fpn", "detector_options": {}}
    network: Any = create("hybrid", task="segmentation", label_count=2, **settings)
    assert not all(p.requires_grad for p in network.detector.parameters())
    load_weights(network, ())
    assert all(p.requires_grad for p in network.detector.parameters())


def test_check_network_augmentation_refuses_pasted_objects_in_a_second_input(network):
    check_network_augmentation(AugmentationConfig(mosaic=1), network)
    with raises("bad-recipe.unsuitable-augmentation", "copy_paste"):
        check_network_augmentation(AugmentationConfig(copy_paste=0.5), network)
