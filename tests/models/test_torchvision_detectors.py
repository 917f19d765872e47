"""Faster and Mask R-CNN against torchvision's own way from the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN, MaskRCNN, maskrcnn_resnet50_fpn
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, box_iou, nms

from blemish.models import create
from blemish.models._onnx_ops import grouped_nms
from blemish.models._weights import fill, load_weights
from blemish.models.architectures.torchvision_detectors import legacy_name, with_batch_norm_epsilon
from blemish.testing import raises
from blemish.training.optimizers import freeze

SIDE = 96


def network_of(name, **options):
    torch.manual_seed(0)
    task = "segmentation" if name.startswith("mask") else "detection"
    network: Any = create(name, task=task, label_count=3, input_size=SIDE, **{"proposals": 80, **options})
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        # Fresh networks are near-silent: statistics of one batch, and heads that disagree with each other.
        network.train()
        network.loss([torch.randn(2, 3, SIDE, SIDE)], targets_of([[10, 10, 60, 70]], [[5, 40, 90, 96]]))
        network.roi_heads.box_predictor.cls_score.weight *= 8
        network.roi_heads.box_predictor.bbox_pred.weight *= 30
        network.rpn.head.cls_logits.weight *= 20
        network.rpn.head.bbox_pred.weight *= 20
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


class Identity(GeneralizedRCNNTransform):
    def forward(self, images, targets=None):
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(images), [tuple(i.shape[-2:]) for i in images]), targets

    def postprocess(self, result, image_shapes, original_image_sizes):
        return result


def torchvisions(network):
    """Torchvision's model on the same parts."""
    mask = network.task == "segmentation"
    stand_in = (MaskRCNN if mask else FasterRCNN)(network.backbone, 4)
    stand_in.rpn, stand_in.roi_heads = network.rpn, network.roi_heads
    stand_in.rpn._post_nms_top_n = {"training": 2000, "testing": network.proposal_count}
    stand_in.roi_heads.score_thresh = network.min_score
    stand_in.roi_heads.nms_thresh = network.nms_iou
    stand_in.roi_heads.detections_per_img = network.max_detections
    stand_in.transform = Identity(SIDE, SIDE, [0.0], [1.0])
    return stand_in


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn-resnet18-fpn",
        "maskrcnn-resnet18-fpn",
        "fasterrcnn-resnet18-fpn-v2",
        pytest.param("maskrcnn-resnet18-fpn-v2", marks=pytest.mark.slow),
    ],
)
def test_rcnn_detections_equal_torchvisions(name):
    network = network_of(name)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        boxes, scores, labels, *masks = network(images)
        theirs = torchvisions(network).eval()(list(images))
    for row, wanted in enumerate(theirs):
        found = scores[row] > 0
        assert found.sum() == len(wanted["scores"]) > 10
        # Scores that are equal but for rounding may change places.
        same = labels[row][found][:, None] + 1 == wanted["labels"]
        same &= (scores[row][found][:, None] - wanted["scores"]).abs() < 1e-5
        same &= box_iou(boxes[row][found], wanted["boxes"]) > 0.999
        twin = same.int().argmax(1)
        assert same.any(1).all()
        assert len(set(twin.tolist())) == len(twin)
        assert (scores[row][found].diff() <= 0).all()
        assert (labels[row][~found] == -1).all()
        if masks:
            torch.testing.assert_close(
                masks[0][row][found][:, None], wanted["masks"][twin], rtol=1e-3, atol=1e-4
            )
            assert wanted["masks"].std() > 1e-3


def targets_of(*rows):
    found = []
    for boxes in rows:
        masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = 1
        labels = torch.arange(len(boxes)) % 3
        found.append({"boxes": torch.tensor(boxes).float().reshape(-1, 4), "labels": labels, "masks": masks})
    return found


def test_loss_equals_torchvisions():
    torch.manual_seed(0)
    network = network_of("maskrcnn-resnet18-fpn").train()
    images = torch.randn(2, 3, SIDE, SIDE)
    targets = targets_of([[10, 10, 60, 70], [40, 40, 90, 90]], [[5, 40, 90, 96]])
    reference = torchvisions(network).train()  # shares the parts, so both propose as many regions
    network.train()  # theirs would let the statistics of frozen layers drift
    torch.manual_seed(5)
    ours = network.loss([images], targets)
    for target in targets:
        target["labels"] = target["labels"] + 1
    torch.manual_seed(5)
    theirs = reference(list(images), targets)
    assert len(ours) == len(theirs) == 5
    torch.testing.assert_close(sum(ours.values()), sum(theirs.values()))
    sum(ours.values()).backward()
    silent = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


@pytest.mark.parametrize("name", ["maskrcnn-resnet18-fpn", "fasterrcnn-resnet18-fpn-v2"])
def test_rcnn_loss_in_evaluation_mode_is_repeatable(name):
    network = network_of(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randn(2, 3, SIDE, SIDE)
    targets = targets_of([[10, 10, 60, 70]], [[7, 7, 8, 8]])
    state = torch.get_rng_state()
    with torch.no_grad():
        first, second = (network.loss([images], targets) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in second.items()}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not network.rpn.training
    assert not network.roi_heads.training


def test_rcnn_loss_of_clean_images_and_thin_boxes_is_finite():
    network = network_of("maskrcnn-resnet18-fpn").train()
    images = torch.randn(3, 3, SIDE, SIDE)
    parts = network.loss([images], targets_of([], [[9, 9, 9, 9]], [[20, 20, 21, 21]]))
    sum(parts.values()).backward()
    assert all(part.isfinite() for part in parts.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_rcnn_frozen_layers_keep_weights_and_statistics():
    network = network_of("fasterrcnn-resnet18-fpn", trainable_backbone_layers=2).train()
    frozen = {n.split(".")[2] for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1", "layer2"}
    body = network.backbone.body
    assert not body.bn1.training
    assert not body.layer2[0].bn1.training
    assert body.layer3[0].bn1.training
    covered = [p for stage in network.stages for p in network.parameters_of(stage)]
    assert sorted(map(id, covered)) == sorted(id(p) for p in network.parameters())


def test_on_weights_loaded_freezes_a_loaded_backbone_only(tmp_path):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    how: dict[str, Any] = {
        "task": "detection",
        "label_count": 2,
        "input_size": SIDE,
        "trainable_backbone_layers": 2,
    }
    loaded: Any = create("fasterrcnn-resnet18-fpn-v2", **how)
    fresh = create("fasterrcnn-resnet18-fpn-v2", **how)
    load_weights(loaded, [tmp_path / "resnet18.pth"])
    load_weights(fresh, [])
    resting = set(freeze(loaded, None, batch_norm_frozen=True))
    assert {"backbone.body.bn1", "backbone.body.layer1", "backbone.body.layer4.1.bn2"} <= resting
    heads = {n for n, m in loaded.named_modules() if isinstance(m, torch.nn.BatchNorm2d) and "body" not in n}
    assert heads
    assert not heads & resting
    assert all(p.requires_grad for p in fresh.parameters())
    assert not any(p.requires_grad for p in loaded.backbone.body.layer1.parameters())
    assert freeze(fresh, None, batch_norm_frozen=True) == []


def test_grouped_nms_equals_torchvisions():
    torch.manual_seed(1)
    corner = torch.rand(4, 60, 2) * 50
    boxes = torch.cat((corner, corner + 5 + torch.rand(4, 60, 2) * 30), -1)
    scores = torch.rand(4, 60)
    scores[3] = 0
    keep = grouped_nms(boxes, scores, 0.4, 0.2, 10)
    for group in range(4):
        rows = (scores[group] > 0.2).nonzero()[:, 0]
        wanted = rows[nms(boxes[group, rows], scores[group, rows], 0.4)[:10]]
        assert set(keep[group].nonzero()[:, 0].tolist()) == set(wanted.tolist())
    kept = boxes[0][keep[0]]
    assert (box_iou(kept, kept) - torch.eye(len(kept))).max() <= 0.4


def test_create_rcnn_offers_the_nearest_option():
    with raises("bad-recipe.unknown-option", "fasterrcnn-resnet18-fpn", "'proposals'"):
        create("fasterrcnn-resnet18-fpn", task="detection", label_count=1, proposal=3)


@pytest.mark.parametrize("first", [False, True])
def test_rcnn_loads_both_generations_of_tensor_names(first):
    """Files that torchvision published before 0.13 keep their names; its own reader renames them too."""
    torch.manual_seed(0)
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    state = dict(theirs.state_dict())
    if first:
        state = {legacy_name(name): x for name, x in state.items() if "num_batches" not in name}
        assert "roi_heads.mask_head.mask_fcn4.bias" in state and "rpn.head.conv.weight" in state
        again = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
        again.load_state_dict(state)  # torchvision agrees that these are its first names
        assert torch.equal(again.rpn.head.conv[0][0].weight, theirs.rpn.head.conv[0][0].weight)
    ours = create("maskrcnn-resnet50-fpn", task="segmentation", label_count=3, input_size=SIDE)
    report = fill(ours, state, Path("checkpoint"))
    assert not report.missing
    assert not [name for name in report.skipped if "num_batches" not in name]
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


@pytest.mark.parametrize("first", [True, False])
def test_with_batch_norm_epsilon_keeps_the_outputs_of_coco_v1(first, tmp_path):
    """COCO_V1: torchvision sets its frozen layers' epsilon to 0 once it has loaded them, and so must we."""
    torch.manual_seed(0)
    backbone = _resnet_fpn_extractor(resnet18(norm_layer=FrozenBatchNorm2d), 3)
    theirs: Any = FasterRCNN(backbone, 91).eval()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.running_var.uniform_(1e-7, 1e-4)  # small beside the epsilon
                module.weight.uniform_(0.001, 0.01)
    overwrite_eps(theirs, 0.0)
    state = dict(theirs.state_dict())
    if first:
        state = {legacy_name(name): tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "coco.pth")
    ours: Any = create("fasterrcnn-resnet18-fpn", task="detection", label_count=90, input_size=SIDE)
    load_weights(ours, [tmp_path / "coco.pth"])
    ours.eval()
    image = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        wanted, found = theirs.backbone(image), ours.backbone(image)
        overwrite_eps(theirs, 1e-5)
        otherwise = theirs.backbone(image)
    for name, maps in wanted.items():
        torch.testing.assert_close(found[name], maps, rtol=1e-4, atol=1e-5 * float(maps.abs().max()))
        assert (otherwise[name] - maps).abs().max() > 0.05 * maps.abs().max()


def test_with_batch_norm_epsilon_ignores_other_weights():
    own = dict(create("fasterrcnn-resnet18-fpn", task="detection", label_count=90).state_dict())
    assert with_batch_norm_epsilon(own) is own  # its layers count batches: they were not frozen
    fewer = {n: x[:5] if "cls_score" in n else x for n, x in own.items() if "num_batches" not in n}
    assert with_batch_norm_epsilon(fewer) is fewer
