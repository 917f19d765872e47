"""The gradient of a score with respect to feature maps: what CAM methods ask of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blemish.models.contract import Network


class ScoreGradients(nn.Module):
    """A network that answers with its feature maps and the gradients of a weighted sum of its outputs.

    The network's weights take no gradient, so that only the layers behind the feature maps are walked back.
    """

    def __init__(self, network: Network, layers: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.network = network
        self.layers = layers or network.feature_layers

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """Features, then gradients, one of each a layer.

        Args:
            arguments: the network's inputs, then the selector (b, outputs), the weight of each output.

        Returns:
            (b, c, h, w) features a layer, then gradients of the same shapes.
        """
        *inputs, selector = arguments
        features: dict[str, Tensor] = {}

        def keep(layer: str) -> Callable[..., Tensor]:
            def hook(module: nn.Module, given: Any, output: Tensor) -> Tensor:
                leaf = output.detach().requires_grad_()
                features[layer] = leaf
                return leaf.clone()  # what follows may work in place, and the features must stay

            return hook

        hooks = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name in self.layers]
        try:
            with torch.enable_grad():
                output = self.network(*inputs)[0]
                kept = [features[name] for name in self.layers]
                gradients = torch.autograd.grad((output * selector).sum(), kept)
        finally:
            for hook in hooks:
                hook.remove()
        return (*(x.detach() for x in kept), *gradients)


class TorchGradients:
    """Feature maps and gradients from the network itself; the same answers as the file beside the model.

    Attributes:
        layers: the feature layers' names.
        output_count: how many numbers the network says of a photograph.
    """

    def __init__(
        self, network: Network, *, output_count: int | None = None, layers: tuple[str, ...] | None = None
    ) -> None:
        self._module = ScoreGradients(network, layers)
        self._names = [spec.name for spec in network.inputs]
        self.layers = self._module.layers
        self.output_count = output_count or network.label_count

    def look(
        self, feeds: Mapping[str, np.ndarray], selector: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Features and gradients, each a (b, c, h, w) float32 array a layer."""
        network = self._module.network
        weight = next(network.parameters())
        inputs = [torch.as_tensor(feeds[name]).to(weight) for name in self._names]
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        try:
            found = self._module(*inputs, torch.as_tensor(selector).to(weight))
        finally:
            for module, training in modes:
                module.training = training
        arrays = [x.detach().float().cpu().numpy() for x in found]
        return arrays[: len(self.layers)], arrays[len(self.layers) :]
