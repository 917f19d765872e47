"""`channels_last: null`: a short trial on this machine chooses the memory format of a training on a CPU.

Which format is faster depends on the CPU: for one and the same ResNet-18, channels-last was 16 % slower with
AVX2 and 18 % faster with AVX-512. The choice is written to the run's recipe, so that a resumed training takes
the same format and the same bits, and to the user's cache, so that the next training of the same network on
this machine does too.
"""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from blemish.data.user_cache import load_json, save_json, short_digest
from blemish.models._network import Network

MIN_STEPS = 100  # of a training; a shorter one would hardly earn the trial back
MIN_GAIN = 0.03  # by which channels-last must be faster than torch's own format
ROUNDS = 2  # timed passes per format, after one to warm up


def choose_channels_last(network: Network, batch_size: int, precision: str) -> bool:
    """Return whether a forward and a backward pass are faster in the channels-last format on this CPU.

    Args:
        network: as it will be trained, on the CPU; a copy is timed, and neither the network nor torch's
            random state changes.
        batch_size: images per batch.
        precision: of the recipe: `fp32` or `bf16`.
    """
    name = f"memory-format-{_digest(network, batch_size, precision)}.json"
    known = load_json(name)
    if isinstance(known, bool):
        return known
    with torch.random.fork_rng([]):
        inputs = [torch.rand(batch_size, s.channels, *s.size_hw) for s in network.inputs]
        formats = (torch.contiguous_format, torch.channels_last)
        sides = [_in_format(network, inputs, memory_format) for memory_format in formats]
        seconds: list[list[float]] = [[], []]
        with pointwise_by_onednn(*(copied for copied, _ in sides)):
            for turn in range(ROUNDS + 1):
                for times, side in zip(seconds, sides, strict=True):
                    start = time.process_time()
                    _pass(*side, precision)
                    if turn:
                        times.append(time.process_time() - start)
    chosen = min(seconds[1]) < (1 - MIN_GAIN) * min(seconds[0])
    save_json(name, chosen)
    return chosen


@contextmanager
def pointwise_by_onednn(*networks: nn.Module) -> Iterator[None]:
    """Let oneDNN compute the 1 x 1 convolutions of networks on a CPU, also with one thread.

    With one thread and fewer than 16 images, torch computes them as matrix products by its BLAS library,
    which is slower on some CPUs. It takes oneDNN for all convolutions with a dilation, of which a kernel of
    one pixel has none: they are computed as with more threads or images. On leaving, the networks are as
    they were.

    Args:
        networks: trained in the context.

    Source:
        `ConvParams::use_mkldnn` in torch's aten/src/ATen/native/Convolution.cpp.
    """
    changed = [
        layer
        for network in networks
        for layer in network.modules()
        if type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.dilation == (1, 1)
    ]
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # no faster then
        changed = []
    for layer in changed:
        layer.dilation = (2, 2)
    try:
        yield
    finally:
        for layer in changed:
            layer.dilation = (1, 1)


def _digest(network: Network, batch_size: int, precision: str) -> str:
    """Return a text that changes with everything the choice depends on, the CPU included."""
    shapes = [(name, tuple(p.shape), p.requires_grad) for name, p in network.named_parameters()]
    sizes = [(s.channels, s.size_hw) for s in network.inputs]
    threads, capability = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    machine = platform.machine(), platform.processor(), capability, threads, torch.__version__
    return short_digest("onednn", network.architecture, shapes, sizes, batch_size, precision, machine)


def _in_format(
    network: Network, inputs: Sequence[Tensor], memory_format: torch.memory_format
) -> tuple[Network, list[Tensor]]:
    """Return a copy of the network in a memory format, with the modes of its layers, and its inputs."""
    copied = copy.deepcopy(network)
    copied.to(memory_format=memory_format)
    return copied, [x.contiguous(memory_format=memory_format) for x in inputs]


def _pass(network: Network, inputs: Sequence[Tensor], precision: str) -> None:
    """Run a forward and a backward pass of the sum of all outputs."""
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        outputs = network(*inputs)
    learned = [output.float().sum() for output in outputs if output.requires_grad]
    if learned:
        torch.stack(learned).sum().backward()  # type: ignore[no-untyped-call]
