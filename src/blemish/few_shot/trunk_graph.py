"""EfficientNet-Lite as ONNX nodes: batch norm folded, TensorFlow's "same" padding, ReLU6."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from blemish.pretrained import BLOCKS

OPSET = 17
IR_VERSION = 9
EPSILON = 1e-3  # of batch norm
# stride of the first block of each stage; the tensors determine kernels, widths and the start of a stage
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
FIRST_FEATURE_STAGE = 2  # at an eighth of the input; earlier maps hold edges and colors only
FEATURE_LAYERS = tuple(f"blocks.{stage}" for stage in range(FIRST_FEATURE_STAGE, len(STAGE_STRIDES)))


@dataclass
class GraphParts:
    """Nodes and constants of a growing graph.

    Attributes:
        nodes: in order of computation.
        constants: by name.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append one node and return the name of its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def add_many(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Append one node with several outputs."""
        self.nodes.append(
            helper.make_node(operator, list(inputs), list(outputs), name=outputs[0], **attributes)
        )

    def constant(self, name: str, value: Any) -> str:
        """Add a constant and return its name."""
        self.constants[name] = np.asarray(value)
        return name

    def to_bytes(
        self, inputs: Mapping[str, Sequence[int | str]], outputs: Mapping[str, Sequence[int | str]]
    ) -> bytes:
        """Return the serialized ModelProto, checked by ONNX.

        Args:
            inputs: shapes by name; a string stands for a dynamic axis.
            outputs: shapes of the outputs, in the same form.
        """

        def infos(shapes: Mapping[str, Sequence[int | str]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in shapes.items()]

        graph = helper.make_graph(
            self.nodes,
            "blemish",
            infos(inputs),
            infos(outputs),
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="blemish",
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def add_trunk(
    parts: GraphParts,
    name: str,
    state: Mapping[str, NDArray[Any]],
    image: str,
    input_size: int,
    *,
    last_stage: int = len(STAGE_STRIDES) - 1,
) -> tuple[str, ...]:
    """Append the stages of an EfficientNet-Lite, without the last convolution and the classifier.

    Args:
        parts: the graph.
        name: "efficientnet-lite0", "efficientnet-lite1" or "efficientnet-lite2".
        state: the published tensors by name.
        image: the input: (b, 3, input_size, input_size) float32, normalized with
            `pretrained.MEAN` and `STD`.
        input_size: height and width in pixels.
        last_stage: later stages are left out.

    Returns:
        `FEATURE_LAYERS` up to `last_stage`: the names of the maps (b, c, h, w) behind the stages at an
        eighth, a sixteenth (two) and a thirty-second (two) of the input.

    Source:
        Tan and Le, EfficientNet-Lite; equals `blocks` of timm's `tf_efficientnet_lite0/1/2`.
    """
    trunk = _Trunk(parts, state, input_size)
    value = trunk.conv(image, "_conv_stem", "_bn0", stride=2, activate=True)
    maps: list[str] = []
    block = 0
    for stage, count in enumerate(BLOCKS[name][: last_stage + 1]):
        for position in range(count):
            value = trunk.block(value, block, STAGE_STRIDES[stage] if position == 0 else 1)
            block += 1
        if stage >= FIRST_FEATURE_STAGE:
            maps.append(parts.add("Identity", [value], f"blocks.{stage}"))
    return tuple(maps)


class _Trunk:
    """Appends convolutions; remembers the size of the current map."""

    def __init__(self, parts: GraphParts, state: Mapping[str, NDArray[Any]], size: int) -> None:
        self.parts, self.state, self.size = parts, state, size

    def conv(self, value: str, conv: str, norm: str, *, stride: int, activate: bool, groups: int = 1) -> str:
        """Append a convolution with its batch norm folded into it, and ReLU6 if `activate`."""
        weight = self.state[f"{conv}.weight"].astype(np.float64)
        gamma, beta, mean, variance = (
            self.state[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        folded = (weight * scale[:, None, None, None]).astype(np.float32)
        bias = (beta - mean * scale).astype(np.float32)
        kernel = weight.shape[-1]
        out = -(-self.size // stride)
        total = max((out - 1) * stride + kernel - self.size, 0)
        before = total // 2
        self.size = out
        result = self.parts.add(
            "Conv",
            [value, self.parts.constant(f"{conv}.w", folded), self.parts.constant(f"{conv}.b", bias)],
            f"{conv}.out",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, total - before, total - before],
            group=groups,
        )
        if not activate:
            return result
        low = self.parts.constant("zero", np.float32(0))
        high = self.parts.constant("six", np.float32(6))
        return self.parts.add("Clip", [result, low, high], f"{conv}.relu6")

    def block(self, value: str, number: int, stride: int) -> str:
        """Append one inverted residual block."""
        prefix = f"_blocks.{number}"
        start, inner = value, value
        width_in = self.state[f"{prefix}._depthwise_conv.weight"].shape[0]
        if f"{prefix}._expand_conv.weight" in self.state:
            width_in = self.state[f"{prefix}._expand_conv.weight"].shape[1]
            inner = self.conv(inner, f"{prefix}._expand_conv", f"{prefix}._bn0", stride=1, activate=True)
        groups = self.state[f"{prefix}._depthwise_conv.weight"].shape[0]
        inner = self.conv(
            inner, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride=stride, activate=True, groups=groups
        )
        inner = self.conv(inner, f"{prefix}._project_conv", f"{prefix}._bn2", stride=1, activate=False)
        width_out = self.state[f"{prefix}._project_conv.weight"].shape[0]
        if stride == 1 and width_in == width_out:
            return self.parts.add("Add", [inner, start], f"{prefix}.sum")
        return inner


def receptive_grids(
    name: str, state: Mapping[str, NDArray[Any]], input_size: int
) -> dict[str, dict[str, list[float]]]:
    """Return the positions of the cells of the feature maps, as fractions of the input.

    Args:
        name: the trunk.
        state: the published tensors by name.
        input_size: height and width in pixels.

    Returns:
        By feature layer: `start_yx`, the center of the first cell, and `stride_yx`, the distance of
        neighboring cells.
    """
    kernels = [v.shape[-1] for k, v in state.items() if k.endswith("_depthwise_conv.weight")]
    strides = [
        STAGE_STRIDES[stage] if position == 0 else 1
        for stage, count in enumerate(BLOCKS[name])
        for position in range(count)
    ]
    ends = {sum(BLOCKS[name][: stage + 1]): f"blocks.{stage}" for stage in range(len(STAGE_STRIDES))}
    size, start, jump = input_size, 0.5, 1.0
    found = {}
    for number, (kernel, stride) in enumerate([(3, 2), *zip(kernels, strides, strict=True)]):
        out = -(-size // stride)
        before = max((out - 1) * stride + kernel - size, 0) // 2
        start += ((kernel - 1) / 2 - before) * jump
        jump, size = jump * stride, out
        if ends.get(number) in FEATURE_LAYERS:
            found[ends[number]] = (start, jump)
    return {
        layer: {"start_yx": [s / input_size] * 2, "stride_yx": [j / input_size] * 2}
        for layer, (s, j) in found.items()
    }


def block_count(state: Mapping[str, Any]) -> int:
    """Return the number of blocks that the tensors describe.

    Example:
        >>> block_count({"_blocks.0._bn1.bias": 0, "_blocks.15._bn1.bias": 0})
        16
    """
    numbers = [int(m.group(1)) for m in (re.match(r"_blocks\.(\d+)\.", k) for k in state) if m]
    return max(numbers, default=-1) + 1
