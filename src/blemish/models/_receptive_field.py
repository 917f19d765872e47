"""Measure the receptive grid of feature maps: which positions of the input their cells respond to."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.models._network import Network

LARGE_INPUT = 640  # pixels; at this size the borders do not influence a middle cell of the last map
MAX_DEVIATION = (
    0.1  # of a cell, from a whole stride or between the axes; with more, the measurement is rejected
)


def receptive_grids(network: Network, layers: Sequence[str] | None = None) -> dict[str, ReceptiveGrid]:
    """Return the receptive grid of each layer; layers that cannot be measured are left out.

    The gradients of two cells near the middle of each map are computed back to the pixels: a cell responds to
    the mean position of its squared gradient. Stride and position of the first cell follow from the two. The
    input is an image of one color, kernels are averaged and maximum pooling is replaced by average pooling,
    so that only the geometry of the layers has an effect.

    Args:
        network: not changed; a copy is measured.
        layers: names of modules. Default: the network's feature layers.
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
    # Convolutions work at any size; detectors have default boxes for one size only.
    enlarge = not network.owns_loss and max(max(s.size_hw) for s in network.inputs) < LARGE_INPUT
    for size in (LARGE_INPUT, None) if enlarge else (None,):
        try:
            return _measure(even, chosen, size)
        except (RuntimeError, AssertionError, ValueError):  # the network takes one size only
            continue
    return {}


def _measure(network: Network, layers: Sequence[str], size: int | None) -> dict[str, ReceptiveGrid]:
    weight = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for spec in network.inputs:
        height, width = spec.size_hw if size is None else (size, size)
        color = torch.rand((1, spec.channels, 1, 1), generator=generator)
        inputs.append(color.expand(1, -1, height, width).clone().to(weight).requires_grad_())
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
    grids = {}
    for name in layers:
        features = maps.get(name)
        if isinstance(features, Tensor) and features.ndim == 4:
            grid = _measure_grid(network, inputs, features)
            if grid is not None:
                grids[name] = grid
    return grids


def _measure_grid(network: Network, inputs: Sequence[Tensor], features: Tensor) -> ReceptiveGrid | None:
    """Return the grid that follows from two cells near the middle; None if they contradict each other."""
    cells = features.shape[2:]
    if min(cells) < 3:
        return None
    middle = [side // 2 for side in cells]
    pairs = []
    at = 0  # index of the input that the layer depends on
    for step in (-1, 1):
        cell = features[:, :, middle[0] + step, middle[1] + step]
        gradients = torch.autograd.grad(cell.pow(2).sum(), inputs, retain_graph=True, allow_unused=True)
        used = [i for i, gradient in enumerate(gradients) if gradient is not None and gradient.any()]
        if not used:
            return None
        at = used[0]
        pairs.append(_center(gradients[at]))
    start, stride = [], []
    for axis in (0, 1):
        pixels = (pairs[1][axis] - pairs[0][axis]) / 2
        first = pairs[0][axis] - (middle[axis] - 1) * pixels
        if not 0.5 < pixels * cells[axis] / inputs[at].shape[2 + axis] < 1.5 or abs(first) > pixels:
            return None
        whole = max(round(pixels), 1)
        if abs(pixels - whole) > MAX_DEVIATION * whole:
            return None  # strides are whole pixels; anything else is noise
        first = sum(pair[axis] for pair in pairs) / 2 - middle[axis] * whole
        pixels = whole
        side = network.inputs[at].size_hw[axis]
        start.append(round(first / side, 5))
        stride.append(round(pixels / side, 5))
    deviation = abs(start[0] / stride[0] - start[1] / stride[1])  # layers treat both axes alike
    return (
        ReceptiveGrid((start[0], start[1]), (stride[0], stride[1])) if deviation < 2 * MAX_DEVIATION else None
    )


def _center(gradient: Tensor) -> tuple[float, float]:
    """Return the mean position (y, x) in pixels of the squares of a (b, c, h, w) gradient."""
    weights = gradient.double().pow(2).sum((0, 1))
    y, x = (torch.arange(n, device=gradient.device, dtype=torch.float64) + 0.5 for n in weights.shape)
    return float((weights.sum(1) * y).sum() / weights.sum()), float(
        (weights.sum(0) * x).sum() / weights.sum()
    )
