"""Torchvision's SSDs behind our forward pass, against torchvision's own way from the same checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from blemish.decoding import decode
from blemish.export.import_weights import drop_unused_coco_rows
from blemish.model_file import Contract, LabelSpec
from blemish.models import create
from blemish.models._coco_labels import COCO_LABELS, COCO_ROWS
from blemish.models._weights import fill
from blemish.preprocessing import Placement
from blemish.testing import raises

BUILDERS = {
    "ssdlite320-mobilenet-v3": detection.ssdlite320_mobilenet_v3_large,
    "ssd300-vgg16": detection.ssd300_vgg16,
}
names = pytest.mark.parametrize(
    "name", ["ssdlite320-mobilenet-v3", pytest.param("ssd300-vgg16", marks=pytest.mark.slow)]
)


class AsItComes(GeneralizedRCNNTransform):
    """Images that are prepared already."""

    def forward(self, images, targets=None):
        return ImageList(torch.stack(images), [tuple(i.shape[-2:]) for i in images]), targets

    def postprocess(self, result, image_shapes, original_image_sizes):
        return result


def theirs_and_ours(name):
    """Return torchvision's model with heads that detect objects, and Blemish's with its checkpoint."""
    torch.manual_seed(0)
    theirs = BUILDERS[name](weights=None, weights_backbone=None, num_classes=4, score_thresh=0.2)
    side = theirs.transform.fixed_size[0]
    theirs.transform = AsItComes(8, 8, [0.0], [1.0])
    theirs.eval()
    with torch.no_grad():
        maps = list(theirs.backbone(torch.randn(1, 3, side, side)).values())
        for part in (theirs.head.classification_head, theirs.head.regression_head):
            for layers, x in zip(part.module_list, maps, strict=True):
                last = layers if isinstance(layers, torch.nn.Conv2d) else layers[-1]
                last.weight.mul_(1.5 / layers(x).std())  # fresh heads are silent, or shout
    ours = create(name, task="detection", label_count=3, min_score=0.2)
    report = fill(ours, theirs.state_dict(), Path("checkpoint"))
    assert not report.missing and not report.skipped
    return theirs, ours.eval()


@names
def test_torchvision_ssd_detections_equal_torchvisions(name):
    theirs, ours = theirs_and_ours(name)
    theirs.topk_candidates, theirs.detections_per_img = 10_000, 200
    side = ours.inputs[0].size_hw[0]
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        wanted = theirs(list(image))[0]
        outputs = [x.numpy() for x in ours(image)]
    assert len(wanted["boxes"]) > 10
    contract = Contract(
        architecture=name,
        task="detection",
        labels=[LabelSpec(name=x, display_name=x) for x in "abc"],
        inputs=ours.inputs,
        outputs=ours.outputs,
        decoder=ours.decoder,
    )
    placement = Placement((side, side), (side, side), (1.0, 1.0), (0.0, 0.0))
    found = decode(contract, dict(zip(("scores", "boxes"), outputs, strict=True)), [placement])[0]
    assert len(found.scores) == len(wanted["scores"])
    np.testing.assert_allclose(found.scores, wanted["scores"].numpy(), atol=1e-5)
    # Scores alike to the last digits may change places: both sides are put into the order of their boxes.
    ours_then = np.column_stack([found.label_index, found.boxes_xyxy])
    theirs_then = np.column_stack([wanted["labels"].numpy() - 1, wanted["boxes"].numpy()])
    orders = [np.lexsort(np.round(rows).T) for rows in (ours_then, theirs_then)]
    np.testing.assert_allclose(ours_then[orders[0]], theirs_then[orders[1]], atol=1e-2)


@names
def test_torchvision_ssd_input_equals_torchvisions(name):
    ours = create(name, task="detection", label_count=3)
    transform = BUILDERS[name](weights=None, weights_backbone=None, num_classes=4).transform
    spec = ours.inputs[0]
    assert spec.size_hw == transform.fixed_size
    np.testing.assert_allclose(spec.mean, transform.image_mean)
    np.testing.assert_allclose(spec.std, transform.image_std)


def test_torchvision_ssd_refuses_another_input_size():
    with raises("bad-recipe.invalid-option", "input_size"):
        create("ssdlite320-mobilenet-v3", task="detection", label_count=3, input_size=512)


def test_coco_rows_equal_torchvisions_categories():
    names = detection.SSD300_VGG16_Weights.COCO_V1.meta["categories"]
    kept = [names[row] for row in COCO_ROWS]
    assert kept[0] == "__background__" and tuple(kept[1:]) == COCO_LABELS


def test_drop_unused_coco_rows():
    """Each row contains the number of its label, which makes the layout visible."""
    rows = torch.arange(91.0)
    kept = torch.tensor(COCO_ROWS, dtype=torch.float)
    assert torch.equal(drop_unused_coco_rows("roi_heads.box_predictor.cls_score.bias", rows), kept)
    four = drop_unused_coco_rows("roi_heads.box_predictor.bbox_pred.bias", rows.repeat_interleave(4))
    assert torch.equal(four, kept.repeat_interleave(4))
    boxes = drop_unused_coco_rows("head.classification_head.module_list.3.bias", rows.repeat(6))
    assert torch.equal(boxes, kept.repeat(6))
    other = torch.zeros(91, 2)
    assert drop_unused_coco_rows("backbone.body.conv1.weight", other) is other
