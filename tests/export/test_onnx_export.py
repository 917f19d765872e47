import copy
from typing import ClassVar, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from blemish.export.onnx_export import OPSET, export_network
from blemish.model_file import DecoderSpec, InputSpec, OutputSpec
from blemish.models._network import Network
from blemish.structures import Task
from blemish.testing import raises


class TwoInputs(Network):
    """Two named inputs of unlike size, batch norm, dropout: what the dynamo exporter has to get right."""

    def __init__(self):
        super().__init__()
        self.task, self.label_count = Task.CLASSIFICATION, 3
        self.inputs = (InputSpec(name="large", size_hw=(26, 30)), InputSpec(name="small", size_hw=(22, 18)))
        self.outputs = (OutputSpec(name="logits", role="scores", activation="logits"),)
        self.decoder = DecoderSpec(name="scores")
        self.stages = {"body": ("first", "second"), "head": ("head",)}
        self.feature_layers = ("first",)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.GELU())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.LayerNorm(16), nn.Linear(16, 3))

    def forward(self, *inputs):
        large, small = inputs
        pooled = torch.cat([self.first(large).mean((2, 3)), self.second(small).mean((2, 3))], 1)
        return (self.head(pooled),)


class Script(TwoInputs):
    exporter: ClassVar[Literal["dynamo", "torchscript"]] = "torchscript"


def taught(kind=TwoInputs):
    """A network whose outputs depend on the image: batch statistics and weights far from silent."""
    torch.manual_seed(0)
    network = kind()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
        network.head[2].weight.normal_()
    return network


def feeds(count, seed=1):
    generator = np.random.default_rng(seed)
    return {
        "large": generator.normal(size=(count, 3, 26, 30)).astype(np.float32),
        "small": generator.normal(size=(count, 3, 22, 18)).astype(np.float32),
    }


def run(graph, batch):
    return onnxruntime.InferenceSession(graph).run(None, batch)[0]


def reference(network, batch, dtype):
    network = copy.deepcopy(network).eval().to(dtype)
    with torch.no_grad():
        return network(*(torch.from_numpy(x).to(dtype) for x in batch.values()))[0].numpy()


@pytest.mark.parametrize("kind", [TwoInputs, Script])
def test_export_network_error_is_that_of_float32(kind):
    network, batch = taught(kind), feeds(16)
    ground_truth = reference(network, batch, torch.float64)
    assert np.ptp(ground_truth, axis=0).min() > 0.1, "a silent network passes any tolerance"
    own = np.abs(reference(network, batch, torch.float32) - ground_truth).max()
    exported = np.abs(run(export_network(network), batch) - ground_truth).max()
    assert own > 0
    assert exported <= 4 * own


def test_export_network_accepts_any_batch():
    graph, batch = export_network(taught()), feeds(7)
    together = run(graph, batch)
    assert together.shape == (7, 3)
    alone = np.concatenate([run(graph, {k: v[i : i + 1] for k, v in batch.items()}) for i in range(7)])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_export_network_names_and_opset():
    model = onnx.load_from_string(export_network(taught()))
    assert [x.name for x in model.graph.input] == ["large", "small"]
    assert [x.name for x in model.graph.output] == ["logits"]
    assert [(x.domain, x.version) for x in model.opset_import] == [("", OPSET)]


def test_export_network_writes_no_information_about_the_machine():
    graph = export_network(taught())
    assert b"site-packages" not in graph
    assert __file__.encode() not in graph
    assert b"stack_trace" not in graph


def test_export_network_does_not_change_the_network(capfd):
    network = taught().train()
    network.first.eval()
    before = copy.deepcopy(network.state_dict())
    export_network(network)
    assert network.training and network.head.training and not network.first.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_export_network_is_deterministic():
    assert export_network(taught()) == export_network(taught())


def test_export_network_refuses_an_untraceable_network():
    class Branching(TwoInputs):
        def forward(self, *inputs):
            large, small = inputs
            if float(large.sum()) > 0:
                return super().forward(large, small)
            return (large.mean((2, 3)),)

    with raises("export-refused.no-graph") as caught:
        export_network(Branching())
    assert "\n" not in caught.message


def test_export_network_refuses_a_graph_over_two_gigabytes(monkeypatch):
    monkeypatch.setattr("blemish.export.onnx_export.MAX_BYTES", 1000)
    with raises("export-refused.too-large"):
        export_network(taught())
