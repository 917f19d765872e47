"""The explanation graph beside a model file: feature maps and exact gradients, for ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blemish.errors import ExportRefused
from blemish.explanation.gradient_graph import EXPLANATION_KEY, SELECTOR, explanation_path
from blemish.export.onnx_export import EXAMPLE_BATCH, example_inputs, export_module
from blemish.model_file import InputSpec, ModelFile, OutputSpec, write_atomically
from blemish.models._gradients import ScoreGradients
from blemish.models._logging_filter import silence
from blemish.models._network import Network
from blemish.models._receptive_field import lattices

UNLIKE_BATCH = 5  # neither 2 outputs nor 3 channels


def explains(network: Network) -> bool:
    """Whether gradient methods apply: one answer for the whole image, and feature maps to look at."""
    whole = not network.task.has_objects
    return whole and bool(network.feature_layers)


def export_explanation(network: Network) -> tuple[bytes, int]:
    """The network's gradients as a serialised ONNX ModelProto, and how many outputs may be selected.

    The backward pass of the layers behind the feature maps is traced into an ordinary graph first, since
    an exporter walks forward only.

    Raises:
        ExportRefused: the network's gradient cannot be written as a graph.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    # Trained channels last, the backward pass would hold operators that ONNX has no word for.
    network.to(memory_format=torch.contiguous_format)
    example = example_inputs(network.inputs, network)
    flags = [(p, p.requires_grad) for p in network.parameters()]
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        network.requires_grad_(False)
        with silence(), torch.no_grad():
            count = int(network(*example)[0].shape[1])
            # Sizes that are equal are taken for one: a batch of 2 with 2 outputs would be fixed at 2.
            batch = EXAMPLE_BATCH if count != EXAMPLE_BATCH else UNLIKE_BATCH
            example = tuple(array[:1].repeat(batch, 1, 1, 1) for array in example)
            arguments = (*example, torch.eye(max(count, batch), count)[:batch].to(example[0]))
            graph = make_fx(ScoreGradients(network), tracing_mode="symbolic", _allow_non_fake_inputs=True)(
                *arguments
            )
    except (RuntimeError, TypeError, AttributeError, IndexError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportRefused(f"the gradient of {type(network).__name__} cannot be traced: {reason}") from error
    finally:
        for parameter, wanted in flags:
            parameter.requires_grad_(wanted)
        for part, training in modes:
            part.training = training
    inputs = (*network.inputs, InputSpec(name=SELECTOR, size_hw=(1, count)))
    outputs = tuple(
        OutputSpec(name=f"{kind}.{i}", role=kind)
        for kind in ("features", "gradients")
        for i in range(len(network.feature_layers))
    )
    return export_module(graph, arguments, inputs, outputs), count


def write_explanation(network: Network, model_file: ModelFile) -> Path | None:
    """Write the explanation graph beside a model file, bound to it by digest; None for other tasks.

    Raises:
        ExportRefused: the network's gradient cannot be written as a graph.
        StorageFull: it could not be written; an earlier one is intact.
    """
    if not explains(network):
        return None
    graph, count = export_explanation(network)
    path = explanation_path(model_file.path)
    facts = {
        "graph_digests": [model_file.graph_digest],
        "layers": list(network.feature_layers),
        "output_count": count,
        "lattices": {name: asdict(found) for name, found in lattices(network).items()},
    }
    write_atomically(path, bind(graph, facts))
    return path


def bind(graph: bytes, facts: Mapping[str, Any]) -> bytes:
    """The explanation graph with what must be known of it; see `GradientFile`.

    Args:
        graph: a serialised ModelProto; metadata in it are replaced.
        facts: `graph_digests` of the model files it explains, `layers`, `output_count`, and by layer the
            `lattices` that were measured.
    """
    import onnx

    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, {EXPLANATION_KEY: json.dumps(facts)})
    return bytes(model.SerializeToString())
