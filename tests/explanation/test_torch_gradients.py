"""Gradients of the torch network, for tasks whose model file has no explanation graph."""

from typing import Any

import numpy as np
import pytest
import torch

from blemish.explanation.methods.class_activation import grad_cam
from blemish.models import create
from blemish.models._gradients import TorchGradients, explained_scores

CASES: dict[str, dict[str, Any]] = {
    "ssd300-resnet50": {"input_size": 96, "backbone": "resnet18"},
    "fasterrcnn-resnet18-fpn": {"input_size": 96, "proposals": 60, "max_detections": 30},
}


@pytest.fixture
def exact(monkeypatch):
    """Compute everything in double precision, including what networks compute in float32 on purpose.

    The scores of an untrained detector hardly change: in float32 a finite difference is mostly rounding,
    which depends on the number of threads.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def detector(name):
    torch.manual_seed(0)
    network = create(name, task="detection", label_count=3, **CASES[name]).eval().double()
    return network, {
        s.name: np.random.default_rng(0).normal(size=(1, s.channels, *s.size_hw)) for s in network.inputs
    }


def assert_gradient(network, feeds, label, near):
    """Assert that moving the features along the gradient changes the score by the length of the gradient."""
    source = TorchGradients(network)
    inputs = [torch.from_numpy(x) for x in feeds.values()]
    features, gradients = source.features_and_gradients(feeds, np.eye(3)[[label]], near)
    at = int(np.argmax([np.abs(g).max() for g in gradients]))
    length = np.linalg.norm(gradients[at])
    assert length > 0
    size = 1e-6 * np.linalg.norm(features[at])
    moved = []
    for sign in (1, -1):
        shift = torch.from_numpy(sign * size * gradients[at] / length)
        layer = network.get_submodule(source.layers[at])
        hook = layer.register_forward_hook(lambda m, i, o, shift=shift: o + shift)
        with torch.no_grad():
            box = None if near is None else torch.from_numpy(near)
            moved.append(float(explained_scores(network, network(*inputs), box)[0, label]))
        hook.remove()
    # RoIAlign gives no gradient to the position of a proposal, which changes with the features too.
    tolerance = 0.05 if hasattr(network, "rpn") else 1e-3
    assert (moved[0] - moved[1]) / (2 * size) == pytest.approx(length, rel=tolerance)
    return features[0][0], gradients[0][0]


@pytest.mark.parametrize("name", CASES)
def test_torch_gradients_of_best_candidate(name, exact):
    network, feeds = detector(name)
    with torch.no_grad():
        scores = explained_scores(network, network(*map(torch.from_numpy, feeds.values())))[0]
    features, gradients = assert_gradient(network, feeds, int(scores.argmax()), None)
    assert grad_cam(features, gradients).shape == features.shape[1:]


@pytest.mark.parametrize("name", CASES)
def test_torch_gradients_near_each_object(name, exact):
    network, feeds = detector(name)
    with torch.no_grad():
        outputs = network(*map(torch.from_numpy, feeds.values()))
    parts = {spec.role: x[0].numpy() for spec, x in zip(network.outputs, outputs, strict=True)}
    label = int(parts["labels"][0]) if "labels" in parts else 0
    scores = parts["scores"] * (parts["labels"] == label) if "labels" in parts else parts["scores"][:, label]
    boxes = parts["boxes"]
    first = int(scores.argmax())
    apart = (boxes[:, 0] > boxes[first, 2]) | (boxes[:, 2] < boxes[first, 0])
    second = int((scores * apart).argmax())
    assert apart[second] and scores[second] > 0
    maps = []
    for row in (first, second):
        near = boxes[row][None]
        found = explained_scores(network, outputs, torch.from_numpy(near))[0, label]
        assert float(found) == pytest.approx(float(scores[row]))
        _, gradients = assert_gradient(network, feeds, label, near)
        maps.append(np.abs(gradients).sum(0).ravel())
    assert np.corrcoef(*maps)[0, 1] < 0.99


def test_torch_gradients_depend_on_weights():
    """A heatmap that does not change with the weights does not explain the model."""
    maps = []
    feeds = {"image": np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)}
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = create("resnet18", task="classification", label_count=4, input_size=64).eval()
        features, gradients = TorchGradients(network).features_and_gradients(
            feeds, np.eye(4, dtype=np.float32)[[1]]
        )
        maps.append((features[0][0] * gradients[0][0]).sum(0).ravel())
    np.testing.assert_allclose(
        maps[0], maps[1], atol=1e-4 * np.abs(maps[0]).max()
    )  # rounding depends on threads
    assert abs(np.corrcoef(maps[0], maps[2])[0, 1]) < 0.9


def test_torch_gradients_depend_on_head():
    torch.manual_seed(0)
    network: Any = create("resnet18", task="classification", label_count=4, input_size=64).eval()
    feeds = {"image": np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)}
    selector = np.eye(4, dtype=np.float32)[[1]]
    before = TorchGradients(network).features_and_gradients(feeds, selector)
    with torch.no_grad():
        network.head[-1].weight.normal_()
    after = TorchGradients(network).features_and_gradients(feeds, selector)
    features = before[0][0]
    np.testing.assert_allclose(features, after[0][0], atol=1e-4 * np.abs(features).max())  # unchanged
    first, second = ((f[0][0] * g[0][0]).sum(0).ravel() for f, g in (before, after))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.99
