"""The gradient of a score with respect to feature maps: what CAM methods ask of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou

from blemish.errors import WrongTask
from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.models._network import Network
from blemish.models._receptive_field import lattices


class ScoreGradients(nn.Module):
    """A network that answers with its feature maps and the gradients of a weighted sum of its scores.

    Where the network's weights take no gradient, only what lies behind the feature maps is walked back.
    """

    def __init__(self, network: Network, layers: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.network = network
        self.layers = layers or network.feature_layers

    def forward(self, *arguments: Tensor, near: Tensor | None = None) -> tuple[Tensor, ...]:
        """Features, then gradients, one of each a layer.

        Args:
            arguments: the network's inputs, then the selector (b, scores), the weight of each score.
            near: see `explained_scores`.

        Returns:
            (b, c, h, w) features a layer, then gradients of the same shapes.
        """
        *inputs, selector = arguments
        features: dict[str, Tensor] = {}

        def keep(layer: str) -> Callable[..., Tensor]:
            def hook(module: nn.Module, given: Any, output: Tensor) -> Tensor:
                # A layer behind another one keeps its past, so that the gradient of the earlier is whole.
                kept = output if output.requires_grad else output.detach().requires_grad_()
                features[layer] = kept
                return kept.clone()  # what follows may work in place, and the features must stay

            return hook

        hooks = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name in self.layers]
        try:
            with torch.enable_grad():
                scores = explained_scores(self.network, self.network(*inputs), near)
                kept = [features[name] for name in self.layers]
                gradients = torch.autograd.grad((scores * selector).sum(), kept)
        finally:
            for hook in hooks:
                hook.remove()
        return (*(x.detach() for x in kept), *gradients)


def explained_scores(network: Network, outputs: Sequence[Tensor], near: Tensor | None = None) -> Tensor:
    """The scores that can be explained, from a network's raw outputs, differentiable.

    Args:
        network: whose outputs they are.
        outputs: in its order.
        near: (b, 4) corners in pixels of the first input: the object to explain, for detectors and
            segmenters.

    Returns:
        (b, n): the logits of image-level tasks; the four numbers of a box for localization; for detectors
        each label's score of the candidate that is the object `near` (the best product of overlap and
        score), or of the best candidate of the image.
    """
    if network.task.is_image_level or network.task == "localization":
        return outputs[0]
    boxes, scores = _candidates(network, outputs)
    if near is None:
        return scores.amax(1)
    with torch.no_grad():
        overlap = torch.stack(
            [box_iou(box[None].float(), all_.float())[0] for box, all_ in zip(near, boxes, strict=True)]
        )
        best = (overlap[..., None] * scores).argmax(1, keepdim=True)  # (b, 1, L)
    return scores.gather(1, best)[:, 0]


def _candidates(network: Network, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes (b, n, 4), corners in network pixels, and scores (b, n, L), as the decoders read them."""
    parts = {spec.role: tensor for spec, tensor in zip(network.outputs, outputs, strict=True)}
    settings, count = network.decoder.settings, network.label_count
    turned = settings.get("channels_first", False)
    if "combined" in parts:  # boxes, perhaps objectness, scores
        rows = parts["combined"].transpose(1, 2) if turned else parts["combined"]
        boxes = rows[..., :4]
        start = 5 if settings.get("objectness", False) else 4
        scores = rows[..., start : start + count]
        scores = scores * rows[..., 4:5] if start == 5 else scores
    else:
        boxes, scores = parts["boxes"], parts["scores"]
        if "labels" in parts:  # one score and one label a box
            labels = parts["labels"].long() - int(settings.get("label_offset", 0))
            scores = scores[..., None] * (labels[..., None] == torch.arange(count, device=labels.device))
        else:
            boxes, scores = (x.transpose(1, 2) if turned else x for x in (boxes, scores))
            columns = settings.get("columns")
            scores = scores[..., list(columns)] if columns else scores[..., :count]
    form = "cxcywh" if network.decoder.name == "set" else settings.get("box_format", "xyxy")
    boxes = box_convert(boxes, form, "xyxy")
    if network.decoder.name == "set" or settings.get("normalized", False):
        height, width = network.inputs[0].size_hw
        boxes = boxes * boxes.new_tensor([width, height, width, height])
    return boxes, scores


class TorchGradients:
    """Feature maps and gradients from the network itself; the same answers as the file beside the model.

    Works for detectors and segmenters too; see `explained_scores`.

    Attributes:
        layers: the feature layers' names; those of `network.feature_layers` that give one map.
        output_count: how many scores there are to choose among.

    Raises:
        WrongTask: the network has no feature maps to look at.
    """

    def __init__(self, network: Network, *, layers: tuple[str, ...] | None = None) -> None:
        self._names = [spec.name for spec in network.inputs]
        self._network = network
        self.output_count, single = self._probe(layers or network.feature_layers)
        if not single:
            raise WrongTask(
                f"{type(network).__name__} names no layer with a feature map; use occlusion or rise"
            )
        self.layers = single
        self._lattices = lattices(network, single)
        self._module = ScoreGradients(network, self.layers)

    def receptive_grid(self, layer: str) -> ReceptiveGrid | None:
        """Return the positions of the cells of a layer's feature map; None if they were not measured."""
        return self._lattices.get(layer)

    def features_and_gradients(
        self,
        feeds: Mapping[str, np.ndarray],
        selector: np.ndarray,
        near_xyxy: np.ndarray | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Features and gradients, each a (b, c, h, w) float32 array a layer."""
        weight = next(self._network.parameters())
        inputs = [torch.as_tensor(feeds[name]).to(weight) for name in self._names]
        modes = [(module, module.training) for module in self._network.modules()]
        self._network.eval()
        try:
            near = None if near_xyxy is None else torch.as_tensor(near_xyxy).to(weight)
            found = self._module(*inputs, torch.as_tensor(selector).to(weight), near=near)
        finally:
            for module, training in modes:
                module.training = training
        arrays = [x.detach().float().cpu().numpy() for x in found]
        return arrays[: len(self.layers)], arrays[len(self.layers) :]

    def _probe(self, layers: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
        """How many scores there are, and which layers give one (b, c, h, w) tensor, by trying."""
        network = self._network
        weight = next(network.parameters())
        found: dict[str, bool] = {}
        modules = dict(network.named_modules())
        hooks = [
            modules[name].register_forward_hook(
                lambda module, given, output, name=name: found.update(
                    {name: isinstance(output, Tensor) and output.ndim == 4}
                )
            )
            for name in layers
            if name in modules
        ]
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        try:
            with torch.inference_mode():
                blank = [torch.zeros((1, spec.channels, *spec.size_hw)).to(weight) for spec in network.inputs]
                count = int(explained_scores(network, network(*blank)).shape[1])
        finally:
            for hook in hooks:
                hook.remove()
            for module, training in modes:
                module.training = training
        return count, tuple(name for name in layers if found.get(name))
