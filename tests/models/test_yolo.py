"""YOLO and RF-DETR against the packages they come from; skipped where those are not installed."""

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch

from blemish.config.detector_options import RFDETROptions, YOLO26Options
from blemish.errors import MissingExtra
from blemish.models import create, describe
from blemish.models._weights import load_weights
from blemish.structures import Labels
from blemish.testing import raises


def needs(package):
    # Imported by our adapter alone: it keeps Ultralytics from asking the network at import.
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def targets(side, count=1):
    mask = torch.zeros(count, side, side, dtype=torch.uint8)
    mask[:, 8:40, 8:30] = 1
    one = {"boxes": torch.tensor([[8.0, 8, 30, 40]] * count), "labels": torch.arange(count), "masks": mask}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": mask[:0]}
    return [one, none]


def learns(network, side):
    network.train()
    image = torch.rand(2, 3, side, side)
    parts = network.loss([image], targets(side))
    assert all(part.isfinite() for part in parts.values())
    sum(parts.values()).backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    network.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        outputs = network(image)
        torch.manual_seed(1)  # RF-DETR's mask losses are of random points
        losses = network.loss([image], targets(side))
        torch.manual_seed(1)
        together, parts = network.forward_and_loss([image], targets(side))
    assert all(part.isfinite() for part in losses.values())
    assert all(torch.equal(a, b) for a, b in zip(together, outputs, strict=True))
    assert {k: float(v) for k, v in parts.items()} == {k: float(v) for k, v in losses.items()}
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    covered = [p for stage in network.stages for p in network.parameters_of(stage)]
    assert len(covered) == len(list(network.parameters()))
    return set(parts)


@pytest.mark.parametrize(
    ("name", "task"), [("yolo11n", "detection"), ("yolov8n-seg", "segmentation"), ("yolo12n", "detection")]
)
def test_yolo_outputs_and_loss_equal_ultralytics(name, task):
    needs("ultralytics")
    torch.manual_seed(0)
    network: Any = create(name, task=task, label_count=3, input_size=(64, 96)).eval()
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        ours = network(image)
        theirs = network.model(image)[0]
    theirs = theirs if task == "segmentation" else (theirs,)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
    assert ours[0].std() > 0
    parts = learns(create(name, task=task, label_count=3, input_size=64), 64)
    assert parts == {"box_loss", "label_loss", "distribution_loss"} | (
        {"mask_loss"} if task == "segmentation" else set()
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_yolo_decoder_gives_a_box_one_label_or_several(multi_label):
    needs("ultralytics")
    options = {"multi_label": True} if multi_label else {}
    network = create("yolo11n", task="detection", label_count=3, input_size=64, **options)
    assert network.decoder.settings["multi_label"] is multi_label


@pytest.mark.parametrize("name", ["yolo11n", "yolo11n-seg", "yolo26n-seg"])
def test_yolo_loss_of_a_window_does_not_depend_on_the_size_of_the_whole_input(name):
    needs("ultralytics")
    task = "segmentation" if "-seg" in name else "detection"
    image, losses = torch.rand(2, 3, 64, 64), []
    for side in (64, 128):
        torch.manual_seed(0)
        network = create(name, task=task, label_count=3, input_size=side).train()
        assert side % network.window_stride == 0
        parts = network.loss([image], targets(64))
        losses.append({name: float(part.detach()) for name, part in parts.items()})
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("name", "task"), [("yolo26n", "detection"), ("yolo26n-seg", "segmentation")])
def test_yolo26_predicts_what_ultralytics_predicts(name, task):
    needs("ultralytics")
    torch.manual_seed(0)
    network: Any = create(name, task=task, label_count=3, input_size=(64, 96), max_detections=20, min_score=0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # one batch is enough for statistics with which scores differ
    head = network.model.model[-1]
    head.end2end, head.max_det = True, 20
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 64, 96))
        network.eval()
        ours = network(image)
        theirs = network.model(image)[0]
    found = theirs[0] if task == "segmentation" else theirs  # (1, 20, 6 or 38): x1 y1 x2 y2 score label
    center, size = ours[1][0, :, :2], ours[1][0, :, 2:]
    boxes = torch.cat((center - size / 2, center + size / 2), 1)
    assert torch.allclose(ours[0].flatten().topk(20).values, found[0, :, 4], atol=1e-6)
    for row in found[0]:
        distance = (boxes - row[:4]).abs().amax(1)
        difference = (ours[0][0, :, int(row[5])] - row[4]).abs()
        assert ((distance < 1e-3) & (difference < 1e-6)).any()
    if task == "segmentation":
        assert ours[2].shape == (1, 20, 16, 24)
        masks = torch.einsum("qc,chw->qhw", found[0, :, 6:], theirs[1][0])
        assert (masks[:, None] - ours[2][0]).abs().amax((2, 3)).amin(1).max() < 1e-3


@pytest.mark.parametrize(("name", "task"), [("yolo26n", "detection"), ("yolo26n-seg", "segmentation")])
def test_yolo26_moves_its_loss_to_the_head_without_suppression(name, task):
    needs("ultralytics")
    network: Any = create(name, task=task, label_count=3, input_size=64)
    parts = learns(network, 64)
    assert parts == {"box_loss", "label_loss", "distance_loss"} | (
        {"mask_loss", "semantic_loss"} if task == "segmentation" else set()
    )
    shares = []
    for epoch in range(3):
        network.start_epoch(epoch, 3)
        shares.append(network._share)
    assert shares == pytest.approx([0.8, 0.45, 0.1])


def test_yolo26_refuses_options_without_effect():
    with raises("bad-recipe.invalid-option", "YOLO26", "nms_iou"):
        YOLO26Options.of("yolo26n", {"nms_iou": 0.6})
    with raises("bad-recipe.invalid-option", "YOLO26", "multi_label"):
        YOLO26Options.of("yolo26n", {"multi_label": True})


def test_no_weights_are_published_for_yolo12_with_masks():
    needs("ultralytics")
    with raises("bad-weights.not-published", "yolo12n-seg", "yolo11n-seg"):
        describe("yolo12n-seg").default_weight_files("yolo12n-seg", {})


def test_yolo_license_and_safe_checkpoint_reading(tmp_path):
    assert "AGPL-3.0" in describe("yolov8s").license
    needs("ultralytics")
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    network = create("yolo11n", task="detection", label_count=1, input_size=64)
    with raises("bad-weights.unreadable", "evil.pt"):
        network.read_state(tmp_path / "evil.pt")


def test_yolo_refuses_an_input_size_that_is_no_multiple_of_32():
    needs("ultralytics")
    with raises("bad-recipe.unsuitable-input-size", "yolo11n", "32", "320 x 96", "333 x 96"):
        create("yolo11n", task="detection", label_count=1, input_size=(333, 96))


def test_rfdetr_refuses_options_without_effect():
    with raises("bad-recipe.invalid-option", "RF-DETR", "nms_iou"):
        RFDETROptions.of("rfdetr-nano", {"nms_iou": 0.6})


@pytest.mark.parametrize(
    ("name", "task", "side"), [("rfdetr-nano", "detection", 64), ("rfdetr-seg-nano", "segmentation", 60)]
)
def test_rfdetr_export_mode_equals_the_network_and_has_a_loss(name, task, side):
    needs("rfdetr")
    torch.manual_seed(0)
    network = create(name, task=task, label_count=3, input_size=side).eval()
    image = torch.rand(2, 3, side, side)
    with torch.no_grad():
        for one, other in zip(network(image), network.for_export()(image), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert {"label_loss", "box_loss", "giou_loss"} <= learns(network, side)


def test_create_without_the_extra_names_it():
    # In a process where the packages cannot be found, whether they are installed or not.
    code = (
        "import sys; sys.modules['ultralytics'] = sys.modules['rfdetr'] = None\n"
        "from blemish.errors import MissingExtra\n"
        "from blemish.models import create, describe\n"
        "for name, extra in (('yolo11n', 'yolo'), ('rfdetr-nano', 'rfdetr')):\n"
        "    for use in (lambda: create(name, task='detection', label_count=1),\n"
        "                lambda: describe(name).default_weight_files(name, {})):\n"
        "        try: use()\n"
        "        except MissingExtra as error: assert f'[{extra}]' in str(error)\n"
        "        else: raise SystemExit(f'no error for {name}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert issubclass(MissingExtra, ImportError)


def test_rfdetr_loads_weights_of_another_size_and_of_more_queries(tmp_path):
    needs("rfdetr")
    whole: Any = create("rfdetr-nano", task="detection", label_count=3, input_size=128)
    file = tmp_path / "whole.pth"
    torch.save({"model": whole.model.state_dict()}, file)
    fewer = {"input_size": 64, "queries": 20, "query_groups": 2}
    small: Any = create("rfdetr-nano", task="detection", label_count=3, **fewer)
    (report,) = load_weights(small, [file])
    assert not [n for n in report.missing if "position_embeddings" in n or "query_feat" in n]
    theirs, ours = whole.model.query_feat.weight, small.model.query_feat.weight
    assert torch.equal(ours[:20], theirs[:20])
    assert torch.equal(ours[20:], theirs[300:320])
    assert small.decoder.settings["max_detections"] == 20


@pytest.mark.parametrize(("name", "is_lost"), [("yolo11n", True), ("yolo26n", False)])
def test_yolo_reports_images_without_a_positive_example(name, is_lost):
    needs("ultralytics")
    network = create(name, task="detection", label_count=2, input_size=64)
    network.train()
    large, none = targets(64)
    tiny = {"boxes": torch.tensor([[8.1, 8.1, 9.9, 9.9]]), "labels": torch.tensor([0])}  # between the centers
    network.loss([torch.rand(3, 3, 64, 64)], [large, none, tiny])
    assert network.unmatched is not None
    # YOLO26 assigns cells around small objects too.
    assert network.unmatched.tolist() == [False, False, is_lost]


@pytest.mark.parametrize("name", ["yolo11n", "yolov8n-seg", "yolo26n"])
def test_yolo_takes_the_width_of_the_branch_for_labels_from_the_weights(name, tmp_path):
    needs("ultralytics")
    task = "segmentation" if name.endswith("-seg") else "detection"
    many = create(name, task=task, label_count=80, input_size=64)
    torch.save(many.state_dict(), tmp_path / "coco.pth")
    few = create(name, task=task, label_count=3, input_size=64)
    (report,) = load_weights(few, [tmp_path / "coco.pth"])
    assert few.chosen_options == {"class_channels": 80}
    # Only the last layers of the branch have one row per label.
    assert {missing.rpartition(".")[0].split("cv3.")[1][1:] for missing in report.missing} == {".2"}
    learns(few, 64)
    again = create(name, task=task, label_count=3, input_size=64, **few.chosen_options)
    again.load_state_dict(few.state_dict())
    narrow = create(name, task=task, label_count=3, input_size=64, class_channels=64)
    assert not narrow.chosen_options
    load_weights(narrow, [tmp_path / "coco.pth"])
    assert not narrow.chosen_options


def test_import_of_a_checkpoint_that_ultralytics_fine_tuned(tmp_path):
    """Its branch for labels is as wide as that of the weights it started from."""
    needs("ultralytics")
    from ultralytics.nn.tasks import DetectionModel

    from blemish.export.import_weights import import_weights

    trained = DetectionModel("yolo11n.yaml", nc=3, verbose=False)
    trained.load(DetectionModel("yolo11n.yaml", nc=80, verbose=False))
    torch.save({"model": trained.half()}, tmp_path / "best.pt")
    labels = Labels(("a", "b", "c"))
    options = {"input_size": 64}
    file = import_weights(tmp_path / "best.pt", "yolo11n", labels, tmp_path / "m.onnx", options=options)
    assert [label.name for label in file.contract.labels] == ["a", "b", "c"]
