"""Where the cells of feature maps look, measured on the network itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.models._network import Network

ROOMY = 640  # pixels: here a middle cell of the last map sees no border that would count
UNSURE = 0.1  # of a cell: what is further off is not believed


def lattices(network: Network, layers: Sequence[str] | None = None) -> dict[str, ReceptiveGrid]:
    """By layer, where its cells look; layers that cannot be measured are left out.

    Two cells near the middle of each map are walked back to the pixels: the centre of what a cell answers
    to is the mean place of its squared gradient. From the two follow the stride and the first cell's
    place. A picture of one colour is looked at, with kernels made flat and the mean for the maximum: then
    every place is treated alike, and only the layers' geometry is left.

    Args:
        network: left as it is; a copy is measured.
        layers: its feature layers where not given.
    """
    chosen = tuple(layers or network.feature_layers)
    if not chosen:
        return {}
    even = copy.deepcopy(network).eval().requires_grad_(False)
    with torch.no_grad():
        for part in even.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.copy_(part.weight.mean((2, 3), keepdim=True).expand_as(part.weight))
            for name, child in part.named_children():
                if isinstance(child, nn.MaxPool2d) and child.dilation in (1, (1, 1)):
                    window = (child.kernel_size, child.stride, child.padding, child.ceil_mode)
                    setattr(part, name, nn.AvgPool2d(*window))
    # Convolutions look alike at any size; detectors have default boxes for one size only.
    roomy = not network.owns_loss and max(max(s.size_hw) for s in network.inputs) < ROOMY
    for size in (ROOMY, None) if roomy else (None,):
        try:
            return _measured(even, chosen, size)
        except (RuntimeError, AssertionError, ValueError):  # the network takes one size only
            continue
    return {}


def _measured(network: Network, layers: Sequence[str], size: int | None) -> dict[str, ReceptiveGrid]:
    weight = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for spec in network.inputs:
        height, width = spec.size_hw if size is None else (size, size)
        colour = torch.rand((1, spec.channels, 1, 1), generator=generator)
        inputs.append(colour.expand(1, -1, height, width).clone().to(weight).requires_grad_())
    maps: dict[str, Any] = {}
    modules = dict(network.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda m, i, o, name=name: maps.update({name: o}))
        for name in layers
    ]
    try:
        with torch.enable_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name in layers:
        features = maps.get(name)
        if isinstance(features, Tensor) and features.ndim == 4:
            lattice = _lattice(network, inputs, features)
            if lattice is not None:
                found[name] = lattice
    return found


def _lattice(network: Network, inputs: Sequence[Tensor], features: Tensor) -> ReceptiveGrid | None:
    """From the centres of two cells near the middle; None where they make no sense."""
    cells = features.shape[2:]
    if min(cells) < 3:
        return None
    middle = [side // 2 for side in cells]
    pairs = []
    at = 0  # which input the layer sees
    for step in (-1, 1):
        cell = features[:, :, middle[0] + step, middle[1] + step]
        slopes = torch.autograd.grad(cell.pow(2).sum(), inputs, retain_graph=True, allow_unused=True)
        seen = [i for i, slope in enumerate(slopes) if slope is not None and slope.any()]
        if not seen:
            return None
        at = seen[0]
        pairs.append(_centre(slopes[at]))
    start, stride = [], []
    for axis in (0, 1):
        pixels = (pairs[1][axis] - pairs[0][axis]) / 2
        first = pairs[0][axis] - (middle[axis] - 1) * pixels
        if not 0.5 < pixels * cells[axis] / inputs[at].shape[2 + axis] < 1.5 or abs(first) > pixels:
            return None
        whole = max(round(pixels), 1)
        if abs(pixels - whole) > UNSURE * whole:
            return None  # strides are whole pixels: anything else is noise
        first = sum(pair[axis] for pair in pairs) / 2 - middle[axis] * whole
        pixels = whole
        side = network.inputs[at].size_hw[axis]
        start.append(round(first / side, 5))
        stride.append(round(pixels / side, 5))
    apart = abs(start[0] / stride[0] - start[1] / stride[1])  # layers treat both axes alike
    return ReceptiveGrid((start[0], start[1]), (stride[0], stride[1])) if apart < 2 * UNSURE else None


def _centre(slope: Tensor) -> tuple[float, float]:
    """The mean place y, x of a (b, c, h, w) gradient's squares, pixels."""
    weights = slope.double().pow(2).sum((0, 1))
    y, x = (torch.arange(n, device=slope.device, dtype=torch.float64) + 0.5 for n in weights.shape)
    return float((weights.sum(1) * y).sum() / weights.sum()), float(
        (weights.sum(0) * x).sum() / weights.sum()
    )
