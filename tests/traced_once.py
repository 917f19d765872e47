"""A fixture that traces graphs once for each network: tracing takes most of the time of these tests."""

import hashlib
from typing import Any

import pytest

from blemish.export import explanation_graph, onnx_export

_GRAPHS: dict[str, Any] = {}


def _key(kind, network):
    digest = hashlib.sha256(repr((kind, type(network), network, network.inputs, network.outputs)).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _once(kind, trace):
    def traced(network):
        key = _key(kind, network)
        if key not in _GRAPHS:
            _GRAPHS[key] = trace(network)
        return _GRAPHS[key]

    return traced


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Trace equal networks once; that tracing is deterministic has a test of its own."""
    graph = _once("graph", onnx_export.export_network)
    explanation = _once("explanation", explanation_graph.export_explanation)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("onnx_export", "run_export", "import_weights"):
            patch.setattr(f"blemish.export.{module}.export_network", graph)
        patch.setattr("blemish.export.explanation_graph.export_explanation", explanation)
        yield
