"""Export a network to ONNX: dynamic batch, evaluation mode, no information about the exporting machine."""

from __future__ import annotations

import io
import re
from typing import Any

import torch
from torch import Tensor, nn

from blemish.errors import ExportRefused, MissingExtra
from blemish.export.anonymous import make_anonymous
from blemish.model_file import InputSpec, OutputSpec
from blemish.models._logging_filter import silence
from blemish.models._network import Network
from blemish.models._onnx_ops import onnx_translations

OPSET = 20  # supported by ONNX Runtime from 1.17 and by OpenVINO from 2024.0
MAX_BYTES = 2**31 - 1  # of a protobuf message, and so of one file
EXAMPLE_BATCH = 2  # the exporter would take a batch of one for a constant


def export_network(network: Network) -> bytes:
    """Return the network as a serialized ONNX ModelProto of opset 20 with weights and without metadata.

    Inputs and outputs have the names of `network.inputs` and `network.outputs`; their first axis is the
    batch, of any size. The network's mode, device and weights do not change. Dropout is off, and batch
    normalization is folded into the convolution before it.

    Raises:
        ExportRefused: the network cannot be written as a graph ("export-refused.no-graph"), or the graph is
            too large for one file ("export-refused.too-large").
        MissingExtra: `onnx` or `onnxscript` is not installed.
    """
    example = example_inputs(network.inputs, network)
    module = network.for_export()
    return export_module(module, example, network.inputs, network.outputs, exporter=network.exporter)


def export_module(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: tuple[InputSpec, ...],
    outputs: tuple[OutputSpec, ...],
    *,
    exporter: str = "dynamo",
) -> bytes:
    """Return any module as a serialized ONNX ModelProto; see `export_network`.

    Args:
        module: its `forward` takes one tensor per input and returns a tuple of one tensor per output.
        example: one tensor per input, of a batch of at least two, on the module's device.
        inputs: their names become those of the graph.
        outputs: their names become those of the graph.
        exporter: `dynamo`, or `torchscript` for modules that torch.export cannot trace.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra("train", "exporting a network") from error
    names = [spec.name for spec in inputs], [spec.name for spec in outputs]
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with silence(), torch.no_grad():
            model = _trace(module, example, *names, exporter=exporter)
    except Exception as error:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch colors its messages for terminals
        detail = (plain.strip().splitlines() or [type(error).__name__])[0]
        raise ExportRefused(
            f"the network cannot be written as an ONNX graph: {detail}", reason="no-graph"
        ) from error
    finally:
        for part, training in modes:
            part.training = training
    make_anonymous(model.graph)
    del model.metadata_props[:]
    model.doc_string = ""
    if model.ByteSize() > MAX_BYTES:
        raise ExportRefused(
            f"the graph needs {model.ByteSize() / 2**30:.1f} GiB, and an ONNX file contains at most 2. "
            "Choose a smaller architecture.",
            reason="too-large",
        )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def example_inputs(inputs: tuple[InputSpec, ...], module: nn.Module) -> tuple[Tensor, ...]:
    """Return a batch of two noise images per input, on the module's device and in its precision."""
    weight = next(module.parameters(), torch.zeros(0))
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn((EXAMPLE_BATCH, spec.channels, *spec.size_hw), generator=generator).to(weight)
        for spec in inputs
    )


def _trace(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], *, exporter: str
) -> Any:
    import onnx

    if exporter == "torchscript":
        file = io.BytesIO()
        axes = {name: {0: "batch"} for name in inputs + outputs}
        torch.onnx.export(
            module,
            example,
            file,  # type: ignore[arg-type]  # any file object works
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
        )
        return onnx.load_from_string(file.getvalue())
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        module,
        example,
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=_shapes(module, example, batch),
        custom_translation_table=onnx_translations(),
    )
    assert program is not None  # noqa: S101  (it is None only with a file)
    return program.model_proto


def _shapes(module: nn.Module, example: tuple[Tensor, ...], batch: Any) -> tuple[Any, ...]:
    """Return the dynamic axes: the first of each argument is the batch; `*args` needs one tuple more."""
    import inspect

    axes = tuple({0: batch} for _ in example)
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    return (axes,) if kinds and kinds[0] is inspect.Parameter.VAR_POSITIONAL else axes
