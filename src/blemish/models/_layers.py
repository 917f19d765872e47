"""`layer_table`: the stages of a network with their modules, output shapes and numbers of parameters."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blemish.models._network import Network


@dataclass(frozen=True)
class LayerInfo:
    """One stage of a network.

    Attributes:
        stage: its name, as recipes use it for freezing and learning rates.
        modules: the types of its modules that have parameters, with counts.
        output: shape of its output for one image, such as `64 x 112 x 112`; "" if it is not a single tensor.
        parameters: number of parameters.
    """

    stage: str
    modules: str
    output: str
    parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


def layer_table(network: Network) -> list[LayerInfo]:
    """Return the stages from the image to the head, with the shape of each output.

    Example:
        >>> from blemish.models import create
        >>> for layer in layer_table(create("resnet18", task="multilabel", label_count=2, input_size=224)):
        ...     print(layer.stage, layer.output)
        stem 64 x 112 x 112
        layer1 64 x 56 x 56
        layer2 128 x 28 x 28
        layer3 256 x 14 x 14
        layer4 512 x 7 x 7
        head 2
    """
    shapes: dict[str, str] = {}

    def remember(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[name] = " x ".join(str(n) for n in output.shape[1:])

        return hook

    modules = dict(network.named_modules())
    watched = {p for prefixes in network.stages.values() for p in prefixes if p in modules}
    hooks = [modules[p].register_forward_hook(remember(p)) for p in watched]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            network(*(torch.zeros(1, s.channels, *s.size_hw, device=device) for s in network.inputs))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    rows = []
    for stage, prefixes in network.stages.items():
        counts = Counter(
            type(inner).__name__
            for p in prefixes
            if p in modules
            for inner in modules[p].modules()
            if any(True for _ in inner.parameters(recurse=False))
        )
        names = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in counts.items())
        output = next((shapes[p] for p in reversed(prefixes) if p in shapes), "")
        rows.append(LayerInfo(stage, names, output, sum(p.numel() for p in network.parameters_of(stage))))
    return rows
