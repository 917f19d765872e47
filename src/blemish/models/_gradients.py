"""The gradient of a score with respect to feature maps, as CAM methods need it."""

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
from blemish.models._receptive_field import receptive_grids


class ScoreGradients(nn.Module):
    """A module that returns a network's feature maps and the gradients of a weighted sum of its scores.

    If the network's weights require no gradient, the backward pass covers only the layers behind the maps.
    """

    def __init__(self, network: Network, layers: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.network = network
        self.layers = layers or network.feature_layers

    def forward(self, *arguments: Tensor, near: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the feature maps of each layer, then their gradients.

        Args:
            arguments: the network's inputs, then the selector (b, scores) with the weight of each score.
            near: see `explained_scores`.

        Returns:
            One (b, c, h, w) feature map per layer, then one gradient of the same shape per layer.
        """
        *inputs, selector = arguments
        features: dict[str, Tensor] = {}

        def keep(layer: str) -> Callable[..., Tensor]:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
                # A layer behind another one keeps its graph, so that the earlier gradient is complete.
                kept = output if output.requires_grad else output.detach().requires_grad_()
                features[layer] = kept
                return kept.clone()  # later layers may work in place, and the features must not change

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
    """Return the scores that can be explained, differentiable, from a network's raw outputs.

    Args:
        network: the network that returned the outputs.
        outputs: in the order of `network.outputs`.
        near: (b, 4) xyxy in pixels of the first input: the object to explain; for tasks with objects.

    Returns:
        (b, n): the logits of image-level tasks; the four numbers of the box for localization; with objects,
        each label's score of the candidate that is closest to `near` (largest product of IoU and score), or
        of the image's best candidate.
    """
    if not network.task.has_objects:
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
    """Return boxes (b, n, 4), xyxy in network pixels, and scores (b, n, L), as the decoders read them."""
    parts = {spec.role: tensor for spec, tensor in zip(network.outputs, outputs, strict=True)}
    settings, count = network.decoder.settings, network.label_count
    channels_first = settings.get("channels_first", False)
    if "combined" in parts:  # boxes, objectness (optional), scores
        rows = parts["combined"].transpose(1, 2) if channels_first else parts["combined"]
        boxes = rows[..., :4]
        start = 5 if settings.get("objectness", False) else 4
        scores = rows[..., start : start + count]
        scores = scores * rows[..., 4:5] if start == 5 else scores
    else:
        boxes, scores = parts["boxes"], parts["scores"]
        if "labels" in parts:  # one score and one label per box
            labels = parts["labels"].long() - int(settings.get("label_offset", 0))
            scores = scores[..., None] * (labels[..., None] == torch.arange(count, device=labels.device))
        else:
            boxes, scores = (x.transpose(1, 2) if channels_first else x for x in (boxes, scores))
            columns = settings.get("columns")
            scores = scores[..., list(columns)] if columns else scores[..., :count]
    box_format = "cxcywh" if network.decoder.name == "set" else settings.get("box_format", "xyxy")
    boxes = box_convert(boxes, box_format, "xyxy")
    if network.decoder.name == "set" or settings.get("normalized", False):
        height, width = network.inputs[0].size_hw
        boxes = boxes * boxes.new_tensor([width, height, width, height])
    return boxes, scores


class TorchGradients:
    """Feature maps and gradients computed by the torch network; equal to those of the explanation graph.

    Tasks with objects are supported too; see `explained_scores`.

    Attributes:
        layers: names of the layers of `network.feature_layers` that return one map.
        output_count: number of scores that can be selected.

    Raises:
        WrongTask: the network has no feature maps ("wrong-task.no-feature-maps").
    """

    def __init__(self, network: Network, *, layers: tuple[str, ...] | None = None) -> None:
        self._names = [spec.name for spec in network.inputs]
        self._network = network
        self.output_count, single = self._probe(layers or network.feature_layers)
        if not single:
            raise WrongTask(
                f"{type(network).__name__} has no layer with a feature map; use --method occlusion or rise",
                reason="no-feature-maps",
            )
        self.layers = single
        self._receptive_grids = receptive_grids(network, single)
        self._module = ScoreGradients(network, self.layers)

    def receptive_grid(self, layer: str) -> ReceptiveGrid | None:
        """Return the positions of the cells of a layer's feature map; None if they were not measured."""
        return self._receptive_grids.get(layer)

    def features_and_gradients(
        self,
        feeds: Mapping[str, np.ndarray],
        selector: np.ndarray,
        near_xyxy: np.ndarray | None = None,
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the feature maps and their gradients, one (b, c, h, w) float32 array of each per layer.

        Args:
            feeds: by input name, (b, c, h, w) float32.
            selector: (b, scores) float32, the weight of each score.
            near_xyxy: (b, 4) in network pixels; see `explained_scores`.
        """
        weight = next(self._network.parameters())
        inputs = [torch.as_tensor(feeds[name]).to(weight) for name in self._names]
        modes = [(module, module.training) for module in self._network.modules()]
        self._network.eval()
        try:
            near = None if near_xyxy is None else torch.as_tensor(near_xyxy).to(weight)
            maps = self._module(*inputs, torch.as_tensor(selector).to(weight), near=near)
        finally:
            for module, training in modes:
                module.training = training
        arrays = [x.detach().float().cpu().numpy() for x in maps]
        return arrays[: len(self.layers)], arrays[len(self.layers) :]

    def _probe(self, layers: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
        """Run the network once; return the number of scores and the layers that give a (b, c, h, w) map."""
        network = self._network
        weight = next(network.parameters())
        has_map: dict[str, bool] = {}
        modules = dict(network.named_modules())
        hooks = [
            modules[name].register_forward_hook(
                lambda module, inputs, output, name=name: has_map.update(
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
        return count, tuple(name for name in layers if has_map.get(name))
