"""Export the explanation graph of a network: feature maps and exact gradients, for ONNX Runtime."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from blemish.errors import ExportRefused
from blemish.explanation.gradient_graph import SELECTOR, explanation_path, set_explanation_facts
from blemish.export.onnx_export import EXAMPLE_BATCH, example_inputs, export_module
from blemish.model_file import InputSpec, ModelFile, OutputSpec, write_atomically
from blemish.models._gradients import ScoreGradients
from blemish.models._logging_filter import silence
from blemish.models._network import Network
from blemish.models._receptive_field import receptive_grids

OTHER_BATCH = 5  # equals neither 2 outputs nor 3 channels


def supports_gradients(network: Network) -> bool:
    """Return whether gradient methods apply: the task has no objects, and the network has feature layers."""
    return not network.task.has_objects and bool(network.feature_layers)


def export_explanation(network: Network) -> tuple[bytes, int]:
    """Return the network's gradients as a serialized ONNX ModelProto, and the number of selectable outputs.

    The backward pass of the layers behind the feature maps is first traced into an ordinary graph, because
    the exporter supports forward passes only.

    Raises:
        ExportRefused: the gradient cannot be written as a graph ("export-refused.no-gradient-graph").
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    # After channels-last training, the backward pass would contain operators that ONNX does not have.
    network.to(memory_format=torch.contiguous_format)
    example = example_inputs(network.inputs, network)
    flags = [(p, p.requires_grad) for p in network.parameters()]
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        network.requires_grad_(False)
        with silence(), torch.no_grad():
            count = int(network(*example)[0].shape[1])
            # The tracer takes equal sizes for the same symbol: a batch of 2 with 2 outputs would become
            # fixed.
            batch = EXAMPLE_BATCH if count != EXAMPLE_BATCH else OTHER_BATCH
            example = tuple(array[:1].repeat(batch, 1, 1, 1) for array in example)
            arguments = (*example, torch.eye(max(count, batch), count)[:batch].to(example[0]))
            graph = make_fx(ScoreGradients(network), tracing_mode="symbolic", _allow_non_fake_inputs=True)(
                *arguments
            )
    except (RuntimeError, TypeError, AttributeError, IndexError) as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportRefused(
            f"the gradient of {type(network).__name__} cannot be traced: {detail}", reason="no-gradient-graph"
        ) from error
    finally:
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)
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
    """Write the explanation graph beside a model file, bound to it by digest.

    Returns:
        The file, or None if gradient methods do not apply to the network.

    Raises:
        ExportRefused: the gradient cannot be written as a graph.
        StorageFull: the file could not be written; an earlier one is intact.
    """
    if not supports_gradients(network):
        return None
    graph, count = export_explanation(network)
    path = explanation_path(model_file.path)
    facts = {
        "graph_digests": [model_file.graph_digest],
        "layers": list(network.feature_layers),
        "output_count": count,
        "receptive_grids": {name: asdict(grid) for name, grid in receptive_grids(network).items()},
    }
    write_atomically(path, set_explanation_facts(graph, facts))
    return path
