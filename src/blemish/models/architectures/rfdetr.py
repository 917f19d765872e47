"""RF-DETR: a transformer on DINOv2 features that predicts a set of boxes, without NMS.

Its modules, weights and loss come from Roboflow's package (Apache-2.0), the extra `rfdetr`; training loop,
input sizes, decoding and model file are Blemish's. The package's defaults change between minor versions, so
one is pinned.
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
from blemish.models._anchors import to_centers
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
    """A detector with a set of queries, each with one score per label, a box, and for segmentation a mask.

    The outputs are `scores` (b, q, L + 1), logits whose last column is unused, `boxes` (b, q, 4), centers and
    sizes as shares of the input, and for segmentation `masks` (b, q, h, w), logits over the whole input.
    """

    owns_loss = True

    def __init__(self, name: str, *, task: Task, label_count: int, options: RFDETROptions) -> None:
        super().__init__()
        self.task, self.label_count = task, label_count
        package = import_rfdetr()
        config_class = getattr(package.config, config_name(name))
        defaults = config_class(num_classes=label_count, pretrain_weights="none", device="cpu")
        spec = options.input_spec((defaults.resolution, defaults.resolution), "stretch")
        side, width = spec.size_hw
        block = defaults.patch_size * defaults.num_windows
        if side != width or side % block:
            raise BadRecipe(
                f"model.input_size: {name} needs a square whose side is a multiple of {block} pixels, such "
                f"as {max(round(side / block), 1) * block}; got {side} x {width}",
                reason="unsuitable-input-size",
            )
        self.inputs = (spec,)
        config = config_class(
            num_classes=label_count,
            pretrain_weights="none",
            device="cpu",
            resolution=side,
            positional_encoding_size=side // defaults.patch_size,
            num_queries=options.queries or defaults.num_queries,
            num_select=options.queries or defaults.num_queries,
            **({} if options.query_groups is None else {"group_detr": options.query_groups}),
        )
        train_config = (
            package.config.SegmentationTrainConfig if task.has_masks else package.config.TrainConfig
        )
        training = train_config(dataset_dir=".", output_dir=".")
        self.model = package.lwdetr.build_model_from_config(config, training)
        for key, parameter in self.model.named_parameters():
            if key.endswith("mask_token"):  # used by DINOv2's own training only
                parameter.requires_grad_(False)
        self._patches, self._published_queries = side // defaults.patch_size, defaults.num_queries
        # In a list, so that it is not a submodule of the network.
        self._criterion = [package.lwdetr.build_criterion_from_config(config, training)[0]]
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
        backbone = "model.backbone"
        modules = [f"model.{n}" for n, _ in self.model.named_children() if n != "backbone"]
        parameters = [f"model.{n}" for n, _ in self.model.named_parameters(recurse=False)]
        self.stages = {"backbone": (backbone,), "head": (*modules, *parameters)}
        self.feature_layers = ()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return scores, boxes and, for segmentation, masks; see the class."""
        if self._as_graph:
            boxes, logits, *masks = self.model(inputs[0])
            return (logits, boxes, *masks)
        return self._outputs(self.model(inputs[0]))

    def _outputs(self, predicted: Mapping[str, Any]) -> tuple[Tensor, ...]:
        outputs = predicted["pred_logits"], predicted["pred_boxes"]
        return (*outputs, predicted["pred_masks"]) if self.task.has_masks else outputs

    def for_export(self) -> nn.Module:
        """Return a copy in the package's export mode: without padding masks, with precomputed positions."""
        exported = copy.deepcopy(self).eval()
        exported._as_graph = True
        exported.model.export()
        return exported

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return `label_loss`, `box_loss`, `giou_loss` and, for segmentation, `mask_loss` and `dice_loss`.

        Source:
            The package's SetCriterion with its weights, summed over the decoder's layers.
        """
        return self._losses(self.model(inputs[0]), inputs[0], targets)

    def forward_and_loss(
        self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return the outputs and the losses of one batch; the layers run once."""
        predicted = self.model(inputs[0])
        return self._outputs(predicted), self._losses(predicted, inputs[0], targets)

    def _losses(
        self, predicted: Mapping[str, Any], image: Tensor, targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Any]:
        side = image.new_tensor([image.shape[3], image.shape[2]] * 2)
        rows = []
        for target in targets:
            row = {
                "labels": target["labels"].to(image.device),
                "boxes": to_centers(target["boxes"].to(image)) / side,
            }
            if self.task.has_masks:
                row["masks"] = target["masks"].to(image.device).bool()
            rows.append(row)
        criterion = self._criterion[0].to(image.device).train(self.training)
        losses = criterion(predicted, rows)
        parts: dict[str, Tensor] = {}
        for name, value in losses.items():
            weight = criterion.weight_dict.get(name)
            if weight is None:
                continue
            kind = next(k for k in sorted(LOSSES, key=len, reverse=True) if name.startswith(f"loss_{k}"))
            parts[LOSSES[kind]] = parts.get(LOSSES[kind], 0) + weight * value
        return parts

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names in the package's files, without `model.`."""
        return (name, name.removeprefix("model."))

    def read_state(self, path: Path) -> dict[str, Tensor]:
        """Return the tensors of a file, adapted to this network's input size and number of queries.

        The package's own files contain training arguments too. Positional embeddings of another size are
        interpolated; of more queries, the first of each group are kept.
        """
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = read_state_dict(path)
        from rfdetr.models.weights import interpolate_position_embeddings

        interpolate_position_embeddings(state, self._patches)
        query_count = len(self.model.query_feat.weight)
        for name in [n for n in state if n.endswith(QUERY_TENSORS) and len(state[n]) != query_count]:
            rows = state[name]
            if len(rows) % self._published_queries == 0:  # one group after the other
                groups = rows.reshape(-1, self._published_queries, rows.shape[1])
                state[name] = groups[: self.model.group_detr, : self.model.num_queries].flatten(0, 1)
        return state


def import_rfdetr() -> Any:
    """Return the used modules of the package, with its log messages suppressed.

    Raises:
        MissingExtra: the package is not installed.
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
    """Return Roboflow's COCO weights, downloaded if they are not in torch's hub cache."""
    import_rfdetr()
    from rfdetr.assets.model_weights import ModelWeights

    file = f"rf-detr-{name.removeprefix('rfdetr-')}"
    asset = next(a for a in ModelWeights if Path(a.filename).stem == file)
    return (published(asset.filename, asset.url),)


def build(name: str, *, task: Task, label_count: int, options: RFDETROptions) -> RFDETR:
    """Return the network with random weights."""
    return RFDETR(name, task=task, label_count=label_count, options=options)
