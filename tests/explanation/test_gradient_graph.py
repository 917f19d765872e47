"""The explanation graph of a model file, compared with pytorch-grad-cam on the torch network."""

import functools
import json
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from blemish.explanation.gradient_graph import (
    EXPLANATION_KEY,
    GradientGraph,
    explanation_path,
    set_explanation_facts,
)
from blemish.explanation.methods.class_activation import eigen_cam, grad_cam, hires_cam, layer_cam
from blemish.export import explanation_graph
from blemish.export.explanation_graph import export_explanation, write_explanation
from blemish.model_file import Contract, LabelSpec, ModelFile
from blemish.models import create
from blemish.models._gradients import TorchGradients
from blemish.testing import raises

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import RawScoresOutputTarget

THEIRS = {
    "grad-cam": pytorch_grad_cam.GradCAM,
    "hires-cam": pytorch_grad_cam.HiResCAM,
    "layer-cam": pytorch_grad_cam.LayerCAM,
    "eigen-cam": pytorch_grad_cam.EigenCAM,
}

OURS = {"grad-cam": grad_cam, "hires-cam": hires_cam, "layer-cam": layer_cam, "eigen-cam": eigen_cam}


class FirstOutput(nn.Module):
    """One output tensor from one input, as pytorch-grad-cam needs; the other inputs are constant."""

    def __init__(self, network, constant=()):
        super().__init__()
        self.network, self.constant = network, constant

    def forward(self, x):
        return self.network(x, *self.constant)[0]


class OneOutput(RawScoresOutputTarget):
    def __init__(self, index):
        self.index = index

    def __call__(self, output):
        return output[..., self.index]


@functools.cache
def small(labels):
    """Return one network for all tests that do not change it, so that it is traced once."""
    return create("timm/test_resnet", task="multilabel", label_count=labels, input_size=32)


def with_random_statistics(network, seed=0):
    """Give every batch norm statistics of its own, so that gradients differ from place to place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def fake_file(network, tmp_path):
    contract = Contract(
        architecture="x",
        task=network.task,
        labels=[LabelSpec(name=f"l{i}", display_name="") for i in range(network.label_count)],
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
    )
    return ModelFile(tmp_path / "model.onnx", contract, "d", "graph-digest", None)


def feeds(network, count, seed=1):
    generator = np.random.default_rng(seed)
    return {
        s.name: generator.normal(size=(count, s.channels, *s.size_hw)).astype(np.float32)
        for s in network.inputs
    }


def compare(network, tmp_path, *, count=3, methods=tuple(THEIRS), tolerance=1e-4):
    """Compare every method, label and layer: the graph with torch, and both with pytorch-grad-cam."""
    file = fake_file(network, tmp_path)
    assert write_explanation(network, file) == explanation_path(file.path)
    source, own = GradientGraph(file), TorchGradients(network)
    assert source.layers == network.feature_layers
    batch = feeds(network, count)
    arrays = [torch.from_numpy(x) for x in batch.values()]
    for label in {0, source.output_count - 1}:
        selector = np.eye(source.output_count, dtype=np.float32)[[label] * count]
        features, gradients = source.features_and_gradients(batch, selector)
        there = own.features_and_gradients(batch, selector)
        for ours, theirs in zip([*features, *gradients], [*there[0], *there[1]], strict=True):
            assert np.ptp(theirs) > 0
            assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
        for at, layer in enumerate(source.layers):
            for method in methods:
                for row in range(count):
                    constant = [x[row : row + 1] for x in arrays[1:]]
                    wrapped = FirstOutput(network, constant)
                    one = arrays[0][row : row + 1]
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        with THEIRS[method](wrapped, [network.get_submodule(layer)]) as cam:
                            cam(one, [OneOutput(label)])
                            activations = cam.activations_and_grads.activations[0].numpy()
                            grads = [g.numpy() for g in cam.activations_and_grads.gradients] or [None]
                            module = network.get_submodule(layer)
                            reference = cam.get_cam_image(one, module, None, activations, grads[0], False)[0]
                    ours = OURS[method](features[at][row], gradients[at][row])
                    if (
                        method == "eigen-cam"
                        and np.corrcoef(reference.ravel(), activations[0].sum(0).ravel())[0, 1] < 0
                    ):
                        reference = -reference  # a component's sign is arbitrary
                    reference = np.maximum(reference, 0)
                    np.testing.assert_allclose(ours, reference, atol=tolerance * np.abs(reference).max())


def test_gradient_graph_equals_pytorch_grad_cam(tmp_path):
    network = create("timm/test_resnet", task="classification", label_count=6, input_size=64)
    compare(with_random_statistics(network), tmp_path, count=2)


@pytest.mark.slow
def test_gradient_graph_resnet18(tmp_path):
    network = create("resnet18", task="classification", label_count=6, input_size=64)
    compare(with_random_statistics(network), tmp_path)


@pytest.mark.slow
def test_gradient_graph_resnet50_with_mlp(tmp_path):
    head = {"hidden": [512, 256], "dropout": [0.5, 0.3, 0.0]}
    network = create("resnet50", task="multilabel", label_count=2, input_size=96, head=head)
    compare(with_random_statistics(network), tmp_path, count=2)


@pytest.mark.slow
def test_gradient_graph_both_branches_of_fusion(tmp_path):
    network = with_random_statistics(create("fusion", task="classification", label_count=6))
    assert len(network.feature_layers) == 2
    compare(network, tmp_path, count=1)


@pytest.mark.slow
def test_gradient_graph_localization(tmp_path):
    network = create("resnet50-scratch", task="localization", label_count=0, input_size=64)
    # The map of one of a box's four numbers is what two thousand channels leave of each other: 2e-4 was seen.
    compare(with_random_statistics(network), tmp_path, count=2, tolerance=1e-3)


@pytest.mark.parametrize("labels", [1, 2, 3, 5])
def test_gradient_graph_any_batch_size(labels, tmp_path):
    """Sizes that are equal while tracing become one: as many labels as images would fix both."""
    network = small(labels)
    file = fake_file(network, tmp_path)
    write_explanation(network, file)
    for batch in (1, 2, 4, 7):
        selector = np.zeros((batch, labels), np.float32)
        features, gradients = GradientGraph(file).features_and_gradients(feeds(network, batch), selector)
        assert len(features[0]) == len(gradients[0]) == batch


def test_gradient_graph_channels_last_network(tmp_path):
    network = create("timm/test_resnet", task="classification", label_count=2, input_size=64)
    network = with_random_statistics(network)
    compare(network.to(memory_format=torch.channels_last), tmp_path, methods=("grad-cam",))


def test_export_explanation_does_not_change_network(tmp_path):
    network: Any = create("timm/test_resnet", task="multilabel", label_count=2, input_size=32).train()
    next(network.parameters()).requires_grad_(False)
    before = [p.requires_grad for p in network.parameters()]
    export_explanation(network)
    assert network.training and network.head.training
    assert [p.requires_grad for p in network.parameters()] == before
    assert all(not m._forward_hooks for m in network.modules())


def test_gradient_graph_refuses_missing_damaged_and_other_graphs(tmp_path):
    network = small(2)
    file = fake_file(network, tmp_path)
    with raises("bad-model-file.no-explanation-graph", "model.explain.onnx"):
        GradientGraph(file)
    graph, count = explanation_graph.export_explanation(network)
    path = explanation_path(file.path)
    facts = {"graph_digests": ["another"], "layers": network.feature_layers, "output_count": count}
    path.write_bytes(set_explanation_facts(graph, facts))
    with raises("bad-model-file.other-explanation-graph", "model.explain.onnx", "model.onnx"):
        GradientGraph(file)
    path.write_bytes(graph)
    with raises("bad-model-file.bad-explanation-graph", "model.explain.onnx"):
        GradientGraph(file)
    path.write_bytes(b"nonsense")
    with raises("bad-model-file.bad-explanation-graph", "model.explain.onnx"):
        GradientGraph(file)


def test_explanation_graph_metadata(tmp_path):
    network = small(2)
    path = write_explanation(network, fake_file(network, tmp_path))
    facts = json.loads({p.key: p.value for p in onnx.load(path).metadata_props}[EXPLANATION_KEY])
    grid = facts.pop("receptive_grids")[network.feature_layers[0]]
    assert set(grid) == {"start_yx", "stride_yx"}
    assert facts == {
        "graph_digests": ["graph-digest"],
        "layers": list(network.feature_layers),
        "output_count": 2,
    }
    assert b"site-packages" not in path.read_bytes()
