"""Batch normalization that a weights file has folded into its convolutions, and its restoration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blemish.models._network import Network

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TOLERANCE = 0.01  # of a folded scale, which is 1


def find_folded_norms(network: Network) -> dict[str, BatchNorm]:
    """Return the loaded batch normalization layers that only add a bias, by name.

    Files that were made from a deployed model, such as a TFLite or ONNX file, have the normalization folded
    into the convolution before it: their running mean is 0 and their scale 1 in every channel. Evaluation is
    not affected, but training normalizes with the statistics of each batch, which are others, so that the
    first step loses what the weights have learned.

    Args:
        network: with its weights loaded.
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _KINDS) and f"{name}.running_mean" in network.loaded and _is_folded(module)
    }


def _is_folded(norm: BatchNorm) -> bool:
    if norm.running_mean is None or norm.running_var is None or norm.bias is None:
        return False
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    is_identity = bool((norm.running_mean == 0).all() and ((scale - 1).abs() < _TOLERANCE).all())
    return is_identity and bool((norm.bias != 0).any())  # all are 0 in a file of random weights


@torch.inference_mode()
def restore_norms(
    network: Network, norms: Mapping[str, BatchNorm], batches: Iterable[Sequence[Tensor]]
) -> None:
    """Give batch normalization layers the statistics of images as running statistics.

    Scale and bias change with them, so that the outputs of the network in evaluation stay the same. A layer
    that evaluation does not reach is left as it is.

    Args:
        network: changed in place; its mode stays.
        norms: the layers, from `find_folded_norms`.
        batches: inputs as `forward` takes them, on the network's device.
    """
    sums = {
        name: torch.zeros(2, norm.num_features, dtype=torch.float64, device=norm.weight.device)
        for name, norm in norms.items()
    }
    counts = dict.fromkeys(norms, 0)

    def observe(name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            x = arguments[0]
            count = x.numel() // x.shape[1]
            if count:
                variance, mean = torch.var_mean(x, (0, *range(2, x.dim())), correction=0)
                mean, variance = mean.double(), variance.double()
                sums[name] += count * torch.stack((mean, variance + mean**2))
                counts[name] += count

        return hook

    handles = [norm.register_forward_pre_hook(observe(name)) for name, norm in norms.items()]
    was_training = network.training
    network.eval()
    try:
        for inputs in batches:
            network(*inputs)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    for name, norm in norms.items():
        if counts[name] < 2:
            continue
        assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101  (folded)
        mean, square = sums[name] / counts[name]
        variance = (square - mean**2).clamp(min=0)
        scale = norm.weight / (norm.running_var + norm.eps).double().sqrt()  # of the function, which stays
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
