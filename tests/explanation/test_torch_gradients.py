"""Gradient methods on the torch network, for tasks whose file has no explanation graph."""

import numpy as np
import pytest
import torch

from blemish.explanation.activation import grad_cam
from blemish.models import registry
from blemish.models.gradients import TorchGradients, explained_scores

CASES = {
    "ssd300-resnet50": {"input_size": 96, "backbone": "resnet18"},
    "fasterrcnn-resnet18-fpn": {"input_size": 96},
}


@pytest.mark.parametrize("name", CASES)
def test_a_detectors_gradient_is_that_of_its_best_candidate(name):
    """Held against a finite difference: moving the features along the gradient moves the score by as much."""
    torch.manual_seed(0)
    network = registry.create(name, task="detection", label_count=3, **CASES[name]).eval()
    source = TorchGradients(network)
    assert source.output_count == 3 and source.layers
    feeds = {
        s.name: np.random.default_rng(0).normal(size=(1, s.channels, *s.size_hw)).astype(np.float32)
        for s in network.inputs
    }
    inputs = [torch.from_numpy(x) for x in feeds.values()]
    with torch.no_grad():
        scores = explained_scores(network, network(*inputs))[0]
    label = int(scores.argmax())
    features, gradients = source.look(feeds, np.eye(3, dtype=np.float32)[[label]])
    at = int(np.argmax([np.abs(g).max() for g in gradients]))
    step = gradients[at] / np.linalg.norm(gradients[at])
    size = 2e-4 * np.linalg.norm(features[at])
    moved = []
    for sign in (1, -1):
        layer = network.get_submodule(source.layers[at])
        shift = torch.from_numpy(sign * size * step)
        hook = layer.register_forward_hook(lambda m, i, o, shift=shift: o + shift)
        with torch.no_grad():
            moved.append(float(explained_scores(network, network(*inputs))[0, label]))
        hook.remove()
    slope = (moved[0] - moved[1]) / (2 * size)
    assert slope == pytest.approx(np.linalg.norm(gradients[at]), rel=0.2)
    assert grad_cam(features[at][0], gradients[at][0]).shape == features[at].shape[2:]


def test_other_weights_give_another_map():
    """A map that survives new weights says nothing of the model: edges do that, explanations must not."""
    maps = []
    feeds = {"image": np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)}
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = registry.create("resnet18", task="classification", label_count=4, input_size=64).eval()
        features, gradients = TorchGradients(network).look(feeds, np.eye(4, dtype=np.float32)[[1]])
        maps.append((features[0][0] * gradients[0][0]).sum(0).ravel())
    assert np.array_equal(maps[0], maps[1])
    assert abs(np.corrcoef(maps[0], maps[2])[0, 1]) < 0.9


def test_only_the_head_made_anew_changes_the_map_too():
    torch.manual_seed(0)
    network = registry.create("resnet18", task="classification", label_count=4, input_size=64).eval()
    feeds = {"image": np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)}
    selector = np.eye(4, dtype=np.float32)[[1]]
    before = TorchGradients(network).look(feeds, selector)
    with torch.no_grad():
        network.head[-1].weight.normal_()
    after = TorchGradients(network).look(feeds, selector)
    np.testing.assert_array_equal(before[0][0], after[0][0])  # what is seen stays,
    first, second = ((f[0][0] * g[0][0]).sum(0).ravel() for f, g in (before, after))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.99  # what it is taken for does not
