"""RF-DETR: a transformer on DINOv2 features that answers with a set of boxes, without suppression.

Its modules, weights and loss come from Roboflow's package (Apache-2.0), an extra of its own; loop, sizes,
decoding and file are ours. The package's defaults change between minor versions, so one is pinned.
"""

from __future__ import annotations

import argparse
import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blemish.config.detector_options import RFDETROptions
from blemish.errors import BadRecipe, MissingExtra
from blemish.model_file import DecoderSpec, OutputSpec
from blemish.models._anchors import to_centres
from blemish.models._network import Network
from blemish.models._state_dict import read_state_dict
from blemish.models._weights import published
from blemish.structures import Task

QUERY_TENSORS = ("refpoint_embed.weight", "query_feat.weight")
LOSSES = {
    "ce": "label_loss",
    "bbox": "box_loss",
    "giou": "giou_loss",
    "mask_ce": "mask_loss",
    "mask_dice": "dice_loss",
}


class RFDETR(Network):
    """A set of queries, each with a score a label and a box, and a mask for segmentation.

    Outputs are `scores` (b, q, L + 1), logits whose last column says nothing, `boxes` (b, q, 4), centre and
    size as shares of the input, and for segmentation `masks` (b, q, h, w), logits over the whole input.
    """

    owns_loss = True

    def __init__(self, name: str, *, task: Task, label_count: int, options: RFDETROptions) -> None:
        super().__init__()
        self.task, self.label_count = task, label_count
        package = import_rfdetr()
        kind = getattr(package.config, config_name(name))
        plain = kind(num_classes=label_count, pretrain_weights="none", device="cpu")
        spec = options.input_spec((plain.resolution, plain.resolution), "stretch")
        side, width = spec.size_hw
        block = plain.patch_size * plain.num_windows
        if side != width or side % block:
            raise BadRecipe(
                f"model.input_size: {name} takes squares whose side is a multiple of {block} px, "
                f"such as {max(round(side / block), 1) * block}"
            )
        self.inputs = (spec,)
        config = kind(
            num_classes=label_count,
            pretrain_weights="none",
            device="cpu",
            resolution=side,
            positional_encoding_size=side // plain.patch_size,
            num_queries=options.queries or plain.num_queries,
            num_select=options.queries or plain.num_queries,
            **({} if options.query_groups is None else {"group_detr": options.query_groups}),
        )
        segments = task.has_masks
        training = package.config.SegmentationTrainConfig if segments else package.config.TrainConfig
        how = training(dataset_dir=".", output_dir=".")
        self.model = package.lwdetr.build_model_from_config(config, how)
        for key, parameter in self.model.named_parameters():
            if key.endswith("mask_token"):  # of DINOv2's own training; nothing reads it here
                parameter.requires_grad_(False)
        self._patches, self._published_queries = side // plain.patch_size, plain.num_queries
        # In a list, so that it is no part of the network.
        self._criterion = [package.lwdetr.build_criterion_from_config(config, how)[0]]
        self._as_graph = False
        self.outputs = (
            OutputSpec(name="scores", role="scores", activation="logits"),
            OutputSpec(name="boxes", role="boxes"),
        )
        if task.has_masks:
            self.outputs += (OutputSpec(name="masks", role="masks", activation="logits"),)
        self.decoder = DecoderSpec(
            name="set",
            settings={
                "columns": list(range(label_count)),
                "min_score": options.min_score,
                "max_detections": min(options.max_detections, config.num_queries),
            },
        )
        trunk = "model.backbone"
        rest = [f"model.{n}" for n, _ in self.model.named_children() if n != "backbone"]
        bare = [f"model.{n}" for n, _ in self.model.named_parameters(recurse=False)]
        self.stages = {"backbone": (trunk,), "head": (*rest, *bare)}
        self.feature_layers = ()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Scores, boxes and masks, as the class says."""
        if self._as_graph:
            boxes, logits, *masks = self.model(inputs[0])
            return (logits, boxes, *masks)
        found = self.model(inputs[0])
        answers = found["pred_logits"], found["pred_boxes"]
        return (*answers, found["pred_masks"]) if self.task.has_masks else answers

    def for_export(self) -> nn.Module:
        """A copy on the package's own way for graphs: no padding masks, positions computed once."""
        twin = copy.deepcopy(self).eval()
        twin._as_graph = True
        twin.model.export()
        return twin

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """`label_loss`, `box_loss`, `giou_loss` and, for segmentation, `mask_loss` and `dice_loss`.

        Source:
            The package's SetCriterion with its weights, summed over the layers of the decoder.
        """
        image = inputs[0]
        side = image.new_tensor([image.shape[3], image.shape[2]] * 2)
        rows = []
        for target in targets:
            row = {
                "labels": target["labels"].to(image.device),
                "boxes": to_centres(target["boxes"].to(image)) / side,
            }
            if self.task.has_masks:
                row["masks"] = target["masks"].to(image.device).bool()
            rows.append(row)
        criterion = self._criterion[0].to(image.device).train(self.training)
        found = criterion(self.model(image), rows)
        parts: dict[str, Tensor] = {}
        for name, value in found.items():
            weight = criterion.weight_dict.get(name)
            if weight is None:
                continue
            kind = next(k for k in sorted(LOSSES, key=len, reverse=True) if name.startswith(f"loss_{k}"))
            parts[LOSSES[kind]] = parts.get(LOSSES[kind], 0) + weight * value
        return parts

    def aliases(self, name: str) -> Sequence[str]:
        """The package's files leave our `model.` out."""
        return (name, name.removeprefix("model."))

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file, as this network's size and queries take them.

        The package's own files hold the arguments of their training beside them. Positions learned at another
        size are interpolated; of more queries, the first of each group are kept.
        """
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = read_state_dict(path)
        from rfdetr.models.weights import interpolate_position_embeddings

        interpolate_position_embeddings(state, self._patches)
        own = len(self.model.query_feat.weight)
        for name in [n for n in state if n.endswith(QUERY_TENSORS) and len(state[n]) != own]:
            rows = state[name]
            if len(rows) % self._published_queries == 0:  # group after group
                groups = rows.reshape(-1, self._published_queries, rows.shape[1])
                state[name] = groups[: self.model.group_detr, : self.model.num_queries].flatten(0, 1)
        return state


def import_rfdetr() -> Any:
    """The parts of the package that are used, with its messages kept quiet.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from rfdetr import config
            from rfdetr.models import lwdetr
    except ImportError as error:
        raise MissingExtra("rfdetr", "RF-DETR") from error
    for name in ("rfdetr", "rf-detr"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return argparse.Namespace(config=config, lwdetr=lwdetr)


def config_name(name: str) -> str:
    """Return the package's name for the configuration of an architecture.

    Example:
        >>> config_name("rfdetr-seg-nano")
        'RFDETRSegNanoConfig'
    """
    return "RFDETR" + "".join(part.capitalize() for part in name.split("-")[1:]) + "Config"


def default_weights(name: str) -> tuple[Path, ...]:
    """Roboflow's COCO weights of one architecture, from torch's hub cache or downloaded into it."""
    import_rfdetr()
    from rfdetr.assets.model_weights import ModelWeights

    file = f"rf-detr-{name.removeprefix('rfdetr-')}"
    asset = next(a for a in ModelWeights if Path(a.filename).stem == file)
    return (published(asset.filename, asset.url),)


def build(name: str, *, task: Task, label_count: int, options: RFDETROptions) -> RFDETR:
    """Return the network with random weights."""
    return RFDETR(name, task=task, label_count=label_count, options=options)
