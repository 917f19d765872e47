"""`batch_size: auto`: the largest power of two that the device's memory takes."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from blemish.models._network import Network

MOST_ON_CPU = 64  # more does not make a CPU faster
MOST = 256
SHARE = {"cpu": 0.25, "cuda": 0.7}  # of the memory that is free
_PROBE = 2


def find_batch_size(network: Network, device: torch.device, images: int) -> int:
    """The batch size that the recipe stores in place of `auto`.

    What one image takes is counted, not tried: the bytes that a backward pass keeps for a batch of two.

    Args:
        network: as it will learn; left as it was.
        device: where.
        images: of the training split; a batch is never larger.
    """
    each = bytes_per_image(network)
    fixed = 4 * sum(p.numel() * p.element_size() for p in network.parameters())  # gradient, two moments
    room = SHARE.get(device.type, 0.25) * free_bytes(device) - fixed
    most = min(MOST_ON_CPU if device.type == "cpu" else MOST, max(images, 1))
    size = 1
    while size * 2 <= most and size * 2 * each <= room:
        size *= 2
    return size


def bytes_per_image(network: Network) -> float:
    """What the backward pass of one image keeps in memory, counted on the CPU."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    modes = [(module, module.training) for module in network.modules()]
    statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    inputs = [torch.zeros(_PROBE, s.channels, *s.size_hw) for s in network.inputs]
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        answers: Any = network(*inputs)
        del answers
    for module, training in modes:
        module.training = training
    for name, buffer in network.named_buffers():
        buffer.copy_(statistics[name])
    return sum(size for place, size in kept.items() if place not in own) / _PROBE


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on macOS and Windows
        return 4 * 2**30
