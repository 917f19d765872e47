"""SSD's boxes, matching, code and loss against torchvision's pieces and slow loops."""

from typing import Any

import pytest
import torch
from torchvision.models.detection import _utils as reference
from torchvision.models.detection import ssd as reference_ssd
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from blemish.config.detector_options import RCNNOptions, SSDOptions
from blemish.models import _anchors as boxes_of
from blemish.models import create
from blemish.models._weights import load_weights
from blemish.models.architectures.ssd import multibox_loss
from blemish.testing import raises

SCALES, ASPECT_RATIOS = SSDOptions().scales, SSDOptions().aspect_ratios
MAPS = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]


@pytest.fixture(scope="module")
def anchors():
    return boxes_of.default_boxes(MAPS, (300, 300), SCALES, ASPECT_RATIOS)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return create("ssd300-resnet50", task="detection", label_count=3, input_size=64, backbone="resnet18")


def some_boxes(count, side=300.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * side * 0.7
    return torch.cat((low, low + 4 + torch.rand(count, 2, generator=generator) * side * 0.3), 1)


def test_ssd_map_sizes_equal_the_paper():
    network: Any = create("ssd300-resnet50", task="detection", label_count=20)
    assert [height for height, _ in network.maps_hw] == [38, 19, 10, 5, 3, 1]
    assert [width for _, width in network.maps_hw] == [38, 19, 10, 5, 3, 1]
    assert network.anchors.shape == (8732, 4)
    assert network.feature_layers[-1] == "backbone.layer4"
    covered = [p for stage in network.stages for p in network.parameters_of(stage)]
    assert sorted(map(id, covered)) == sorted(id(p) for p in network.parameters())


@pytest.mark.parametrize("size_hw", [(300, 300), (200, 320)])
def test_default_boxes_equal_torchvisions(size_hw):
    ratios = [list(r) for r in ASPECT_RATIOS]
    generator = DefaultBoxGenerator(ratios, scales=list(SCALES))
    images = ImageList(torch.zeros(1, 3, *size_hw), [size_hw])
    theirs = generator(images, [torch.zeros(1, 1, h, w) for h, w in MAPS])[0]
    ours = boxes_of.to_corners(boxes_of.default_boxes(MAPS, size_hw, SCALES, ASPECT_RATIOS))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_encode_equals_torchvisions_and_decode_inverts_it(anchors):
    ground_truths = some_boxes(len(anchors))
    coder = reference.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    corners = boxes_of.to_corners(anchors)
    ours = boxes_of.encode(ground_truths, anchors, (0.1, 0.2))
    torch.testing.assert_close(ours, coder.encode_single(ground_truths, corners), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(boxes_of.decode(ours, anchors, (0.1, 0.2)), ground_truths, rtol=0, atol=1e-3)
    wild = torch.randn(len(anchors), 4) * 1000
    theirs = coder.decode_single(wild, corners)
    torch.testing.assert_close(boxes_of.decode(wild, anchors, (0.1, 0.2)), theirs, rtol=1e-4, atol=1e-1)


def slow_match(ground_truths, anchors, min_iou):
    """Return the matches by plain loops."""

    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        inside = max(width, 0) * max(height, 0)
        return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)

    table = [[iou(t, a) for a in anchors] for t in ground_truths]
    found = [-1] * len(anchors)
    for column in range(len(anchors)):
        best = max(range(len(ground_truths)), key=lambda row: table[row][column])
        if table[best][column] >= min_iou:
            found[column] = best
    rows, columns = set(range(len(ground_truths))), set(range(len(anchors)))
    while rows:
        overlap, row, column = max((table[r][c], r, c) for r in rows for c in columns)
        if overlap > 0:
            found[column] = row
        rows.discard(row)
        columns.discard(column)
    return found


def test_match_equals_a_slow_loop():
    torch.manual_seed(3)
    maps = [(6, 6), (3, 3)]
    anchors = boxes_of.to_corners(boxes_of.default_boxes(maps, (96, 96), (0.2, 0.5, 0.9), ((2,), (2, 3))))
    anchors += torch.rand(len(anchors), 4)  # no two overlap a truth equally, so that no rounding decides
    for seed in range(5):
        ground_truths = some_boxes(7, 96.0, seed)
        found = boxes_of.match(ground_truths, anchors, 0.5)
        assert found.tolist() == slow_match(ground_truths.tolist(), anchors.tolist(), 0.5)


def test_match_equals_torchvisions_without_conflicts(anchors):
    corners = boxes_of.to_corners(anchors)
    ground_truths = torch.tensor([[10.0, 10, 60, 70], [150, 150, 280, 290], [200, 20, 230, 50]])
    from torchvision.ops import box_iou

    theirs = reference.SSDMatcher(0.5)(box_iou(ground_truths, corners))
    ours = boxes_of.match(ground_truths, corners, 0.5)
    torch.testing.assert_close(ours, theirs.clamp(min=-1))
    assert (ours >= 0).sum() > 5


def test_match_gives_two_ground_truths_in_one_place_one_anchor_each(anchors):
    twice = torch.tensor([[100.0, 100, 104, 104], [100.0, 100, 104, 104.5]])
    found = boxes_of.match(twice, boxes_of.to_corners(anchors), 0.5)
    assert set(found.tolist()) == {-1, 0, 1}


def test_encode_of_tiny_ground_truths_is_finite(anchors):
    thin = torch.tensor([[17.0, 40, 18, 41], [90, 90, 90, 140], [0, 0, 0, 0]])
    found = boxes_of.match(thin, boxes_of.to_corners(anchors), 0.5)
    assert set(found.tolist()) == {-1, 0, 1, 2}
    for row in range(3):
        at = found == row
        assert boxes_of.encode(thin[row].expand(int(at.sum()), 4), anchors[at], (0.1, 0.2)).isfinite().all()


def test_loss_equals_torchvisions(anchors):
    torch.manual_seed(1)
    corners = boxes_of.to_corners(anchors)
    logits, offsets = torch.randn(3, len(anchors), 5), torch.randn(3, len(anchors), 4)
    targets = [{"boxes": some_boxes(n, seed=n), "labels": torch.arange(n) % 4 + 1} for n in (1, 4, 9)]
    matched = [boxes_of.match(t["boxes"], corners, 0.5) for t in targets]
    stand_in = reference_ssd.SSD.__new__(reference_ssd.SSD)
    torch.nn.Module.__init__(stand_in)
    stand_in.box_coder, stand_in.neg_to_pos_ratio = reference.BoxCoder((10.0, 10.0, 5.0, 5.0)), 3.0
    theirs = stand_in.compute_loss(
        targets, {"bbox_regression": offsets, "cls_logits": logits}, [corners] * 3, matched
    )
    labels = [
        torch.where(m >= 0, t["labels"][m.clamp(min=0)], 0) for t, m in zip(targets, matched, strict=True)
    ]
    wanted = [
        boxes_of.encode(t["boxes"][m.clamp(min=0)], anchors, (0.1, 0.2))
        for t, m in zip(targets, matched, strict=True)
    ]
    ours = multibox_loss(logits, offsets, torch.stack(labels), torch.stack(wanted), 3.0)
    torch.testing.assert_close(ours["box_loss"], theirs["bbox_regression"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours["label_loss"], theirs["classification"], rtol=1e-5, atol=1e-5)


def test_multibox_loss_mining_equals_a_slow_loop():
    torch.manual_seed(2)
    logits, labels = torch.randn(2, 50, 3), torch.zeros(2, 50, dtype=torch.int64)
    labels[0, [3, 7]] = torch.tensor([1, 2])
    each = -logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    total = each[0, 3] + each[0, 7]
    total += each[0][labels[0] == 0].sort(descending=True).values[:6].sum()
    total += each[1].sort(descending=True).values[:3].sum()  # a clean image counts as one positive would
    found = multibox_loss(logits, torch.zeros(2, 50, 4), labels, torch.zeros(2, 50, 4), 3.0)
    torch.testing.assert_close(found["label_loss"], total / 2)
    assert found["box_loss"] == 0


def targets_of(*rows):
    return [
        {
            "boxes": torch.tensor(r, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.zeros(len(r), dtype=torch.int64),
        }
        for r in rows
    ]


def test_loss_of_images_without_objects_is_finite_and_has_gradients(small):
    small.train()
    parts = small.loss([torch.rand(2, 3, 64, 64)], targets_of([], []))
    assert parts["box_loss"] == 0
    assert parts["label_loss"] > 0
    sum(parts.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in small.parameters())


def test_loss_stays_finite_after_a_large_step():
    torch.manual_seed(0)
    network = create("ssd300-resnet50", task="detection", label_count=1, input_size=64, backbone="resnet18")
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=30.0, momentum=0.9)
    image = torch.rand(2, 3, 64, 64)
    for _ in range(6):
        parts = network.loss([image], targets_of([[5, 5, 6, 6]], [[0, 0, 64, 64], [9, 9, 9, 9]]))
        optimizer.zero_grad()
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        assert all(part.isfinite() for part in parts.values())
    assert all(output.isfinite().all() for output in network.eval()(image))


def test_ssd_outputs_are_probabilities_and_boxes_inside_the_input(small):
    small.eval()
    with torch.no_grad():
        scores, boxes = small(torch.rand(2, 3, 64, 64) * 50)
    assert scores.shape == (2, len(small.anchors), 3)
    assert boxes.shape == (2, len(small.anchors), 4)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert ((boxes >= 0) & (boxes <= 64)).all()
    assert (boxes[..., 2:] >= boxes[..., :2]).all()


def test_ssd_boxes_in_mixed_precision_equal_full_precision(small):
    small.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores, boxes = small(image)
        logits, offsets = small.heads(image)
    assert (logits.dtype, scores.dtype, boxes.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    wanted = boxes_of.decode(offsets.double(), small.anchors.double(), small.variances).clamp(0, 64)
    torch.testing.assert_close(boxes.double(), wanted, rtol=0, atol=1e-4)


def test_weights_that_cover_padding_only_get_no_gradient(small):
    assert min(small.maps_hw) == (1, 1)
    small.train()
    for _ in range(3):  # what is uninitialised is zero by luck at times
        small.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            parts = small.loss([torch.rand(3, 3, 64, 64)], targets_of([[5, 5, 60, 60]], [[9, 9, 40, 40]], []))
        sum(parts.values()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in small.parameters())
        last = small.auxiliary[-1][2].weight.grad.clone()
        last[..., 1, 1] = 0
        assert last.abs().max() == 0


def test_untrained_ssd_has_low_scores():
    torch.manual_seed(0)
    network = create("ssd300-resnet50", task="detection", label_count=3, input_size=64, backbone="resnet18")
    loud = 30 * torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        scores, _ = network.train()(loud)
    assert scores.max() < 0.5


def test_ssd_backbone_option():
    network: Any = create(
        "ssd300-resnet50", task="detection", label_count=1, input_size=96, backbone="mobilenetv3_small_050"
    )
    assert [h for h, _ in network.maps_hw][:3] == [12, 6, 3]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 96, 96))
    with raises("unknown-name.backbone", "resnet5O", "'resnet50'"):
        create("ssd300-resnet50", task="detection", label_count=1, backbone="resnet5O")
    with raises("bad-recipe.unsuitable-backbone", "vit_tiny_patch16_224", "8, 16 and 32"):
        create("ssd300-resnet50", task="detection", label_count=1, backbone="vit_tiny_patch16_224")
    with raises("bad-recipe.invalid-option", "scales", "7", "got 2"):
        create("ssd300-resnet50", task="detection", label_count=1, scales=[0.1, 0.2])


def test_ssd_with_a_torchvision_backbone_loads_its_file(tmp_path):
    from torchvision.models import mobilenet_v2

    reference = mobilenet_v2(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "mobilenet_v2.pth")
    network: Any = create(
        "ssd300-resnet50", task="detection", label_count=2, input_size=96, backbone="torchvision/mobilenet_v2"
    ).eval()
    (report,) = load_weights(network, [tmp_path / "mobilenet_v2.pth"])
    assert {n for n in report.missing if n.startswith("backbone")} == set()
    image, maps = torch.rand(1, 3, 96, 96), []
    with torch.no_grad():
        x = image
        for at, layer in enumerate(reference.features):
            x = layer(x)
            maps += [x] * (at in (6, 13, 18))
        for ours, theirs in zip(network.backbone(image), maps, strict=True):
            assert torch.equal(ours, theirs)
    assert {"features.0", "features.18", "head"} <= set(network.stages)
    covered = [p for stage in network.stages for p in network.parameters_of(stage)]
    assert sorted(map(id, covered)) == sorted(id(p) for p in network.parameters())
    with raises("bad-recipe.unsuitable-backbone", "torchvision/resnet18", "timm/resnet18"):
        create("ssd300-resnet50", task="detection", label_count=2, backbone="torchvision/resnet18")


def test_ssd_overfits_a_tiny_batch():
    torch.manual_seed(0)
    network = create("ssd300-resnet50", task="detection", label_count=2, input_size=64, backbone="resnet18")
    network.train()
    image = torch.rand(2, 3, 64, 64)
    targets = targets_of([[5, 5, 30, 40]], [[20, 20, 60, 60]])
    targets[1]["labels"] += 1
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        total = sum(network.loss([image], targets).values())
        total.backward()
        optimizer.step()
    network.eval()
    for module in network.modules():  # two images are too few for running statistics
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    with torch.no_grad():
        scores, boxes = network(image)
    from torchvision.ops import box_iou

    for row, target in enumerate(targets):
        best = scores[row, :, target["labels"][0]].argmax()
        assert scores[row, best, target["labels"][0]] > 0.5
        assert box_iou(boxes[row, best][None], target["boxes"]).item() > 0.7


@pytest.mark.parametrize(
    "option",
    [
        {"scales": [-1, 0, 0, 0, 0, 0, 0]},
        {"aspect_ratios": [[0], [2], [2], [2], [2], [2]]},
        {"variances": [0, 0]},
        {"std": [0, 1, 1]},
        {"mean": [float("nan"), 0, 0]},
    ],
)
def test_ssd_options_refuse_default_boxes_without_a_size(option):
    """A network would be built of them, and learn nothing."""
    with raises("bad-recipe.invalid-option", "ssd300-resnet50", next(iter(option))):
        SSDOptions.of("ssd300-resnet50", option)


@pytest.mark.parametrize(
    "option", [{"anchor_sizes": [-8, 16, 32, 64, 128]}, {"aspect_ratios": []}, {"aspect_ratios": [0]}]
)
def test_rcnn_options_refuse_anchors_without_a_size(option):
    with raises("bad-recipe.invalid-option", "fasterrcnn-resnet18-fpn", next(iter(option))):
        RCNNOptions.of("fasterrcnn-resnet18-fpn", option)


def test_options_error_about_several_options_names_none_first():
    with raises("bad-recipe.invalid-option", "ssd300-resnet50: scales: ", "got 2"):
        SSDOptions.of("ssd300-resnet50", {"scales": [1, 2]})
