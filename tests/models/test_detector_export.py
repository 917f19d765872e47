"""Detectors as graphs: the same finds as the network's, for any batch, and for images without any."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torchvision.ops import box_iou

from blemish.export.onnx_export import export_network
from blemish.models import create

SIDE = 96


def session_of(network):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(export_network(network), options, providers=["CPUExecutionProvider"])


def answers(session, image):
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": image.numpy()}), strict=True))


@pytest.mark.parametrize("batch", [1, 3])
def test_ssd_export_equals_the_network(batch, ssd_session):
    network, session = ssd_session
    image = torch.randn(batch, 3, SIDE, SIDE)
    with torch.no_grad():
        scores, boxes = network(image)
    found = answers(session, image)
    assert scores.std() > 0.01
    np.testing.assert_allclose(found["scores"], scores.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["boxes"], boxes.numpy(), atol=1e-2)


@pytest.fixture(scope="module")
def ssd_session():
    torch.manual_seed(0)
    network: Any = create(
        "ssd300-resnet50", task="detection", label_count=2, input_size=SIDE, backbone="resnet18"
    )
    for head in network.score_heads:
        head.weight.data *= 3
    network.eval()
    return network, session_of(network)


@pytest.mark.slow
@pytest.mark.parametrize("side", [SIDE, 75])
def test_ssd_export_on_efficientnet_lite_equals_the_network(side):
    torch.manual_seed(0)
    network: Any = create("ssd300-efficientnet-lite0", task="detection", label_count=2, input_size=side)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, side, side))  # statistics like trained ones
        assert isinstance(network.score_heads, torch.nn.ModuleList)
        for head in network.score_heads:
            head.get_parameter("weight").mul_(30)
    session = session_of(network.eval())
    image = torch.randn(3, 3, side, side)
    with torch.no_grad():
        scores, boxes = network(image)
    found = answers(session, image)
    assert scores.std() > 0.01
    np.testing.assert_allclose(found["scores"], scores.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["boxes"], boxes.numpy(), atol=1e-2)


def rcnn(name, **options):
    torch.manual_seed(0)
    task = "segmentation" if name.startswith("mask") else "detection"
    network: Any = create(
        name, task=task, label_count=3, input_size=SIDE, proposals=50, max_detections=20, **options
    )
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight *= 8
        network.roi_heads.box_predictor.bbox_pred.weight *= 30
        network.rpn.head.cls_logits.weight *= 20
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maskrcnn-resnet18-fpn", "fasterrcnn-resnet18-fpn"])
def test_rcnn_export_accepts_any_batch(name):
    network = rcnn(name)
    session = session_of(network)
    for batch in (1, 2, 3):
        image = torch.randn(batch, 3, SIDE, SIDE)
        with torch.no_grad():
            wanted = dict(zip([o.name for o in network.outputs], network(image), strict=True))
        found = answers(session, image)
        assert (wanted["scores"] > 0).sum() > 5 * batch
        np.testing.assert_allclose(found["scores"], wanted["scores"].numpy(), atol=1e-4)
        for row in range(batch):
            overlap = box_iou(torch.from_numpy(found["boxes"][row]), wanted["boxes"][row])
            same = (overlap >= 0.99) & (
                torch.from_numpy(found["labels"][row])[:, None] == wanted["labels"][row]
            )
            assert same.any(1)[wanted["scores"][row] > 0].all()
        if "masks" in found:
            assert np.abs(found["masks"] - wanted["masks"].numpy()).mean() < 1e-3


@pytest.mark.slow
def test_rcnn_export_returns_empty_rows_without_detections():
    network = rcnn("maskrcnn-resnet18-fpn", min_score=0.999)
    image = torch.randn(2, 3, SIDE, SIDE)
    found = answers(session_of(network), image)
    assert (found["scores"] == 0).all()
    assert (found["labels"] == -1).all()
    assert found["masks"].shape == (2, 20, 28, 28)
    assert not found["masks"].any()


@pytest.mark.slow
def test_hybrid_export_is_one_graph_with_two_inputs():
    pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    network = create(
        "hybrid",
        task="segmentation",
        label_count=2,
        detector="ssd300-resnet50",
        detector_options={"backbone": "resnet18"},
        input_size=SIDE,
        encoder="resnet18",
        mask_size=64,
    ).eval()
    session = session_of(network)
    inputs = torch.randn(3, 3, SIDE, SIDE), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        wanted = dict(zip([o.name for o in network.outputs], network(*inputs), strict=True))
    assert [i.name for i in session.get_inputs()] == ["image", "mask_image"]
    found = session.run(None, {"image": inputs[0].numpy(), "mask_image": inputs[1].numpy()})
    for output, array in zip(session.get_outputs(), found, strict=True):
        np.testing.assert_allclose(array, wanted[output.name].numpy(), atol=1e-3)
    assert wanted["label_maps"].std() > 1e-3
