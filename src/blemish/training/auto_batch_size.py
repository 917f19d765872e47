"""`batch_size: auto`: the largest power of two that fits into the memory of the device."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from blemish.models._network import Network

MAX_ON_CPU = 64  # larger batches are no faster on a CPU
MAX_ON_GPU = 256
MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.7}  # of the available memory
_PROBE_SIZE = 2  # images


def find_batch_size(network: Network, device: torch.device, images: int) -> int:
    """Return the batch size that replaces `auto` in the run's recipe.

    The memory of an image is measured, without running out of memory: the bytes that a forward pass of two
    images keeps for the backward pass.

    Args:
        network: as it will be trained; unchanged afterwards.
        device: where it will be trained.
        images: number of training images, which no batch exceeds.
    """
    per_image = bytes_per_image(network)
    fixed = 4 * sum(p.numel() * p.element_size() for p in network.parameters())  # weights, gradients, moments
    memory = MEMORY_SHARE.get(device.type, 0.25) * available_bytes(device) - fixed
    largest = min(MAX_ON_CPU if device.type == "cpu" else MAX_ON_GPU, max(images, 1))
    size = 1
    while size * 2 <= largest and size * 2 * per_image <= memory:
        size *= 2
    return size


def bytes_per_image(network: Network) -> float:
    """Return the bytes that the backward pass of one image keeps in memory, measured on the CPU."""
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    modes = [(module, module.training) for module in network.modules()]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    inputs = [torch.zeros(_PROBE_SIZE, s.channels, *s.size_hw) for s in network.inputs]
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        outputs: Any = network(*inputs)
        del outputs
    for module, training in modes:
        module.training = training
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    return sum(size for address, size in saved.items() if address not in own) / _PROBE_SIZE


def available_bytes(device: torch.device) -> int:
    """Return the available memory of a device in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not available on macOS and Windows
        return 4 * 2**30
