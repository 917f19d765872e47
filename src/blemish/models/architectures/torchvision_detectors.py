"""Faster and Mask R-CNN: torchvision's modules, weights and losses; the way from them to boxes written anew.

torchvision resizes inside the network and gives lists of any length, which one graph with a dynamic batch
cannot say. Here the image comes as our preprocessing made it, and every stage gives a fixed number
of rows, the empty ones with score 0: same boxes, one path for training, validation and file.
"""

from __future__ import annotations

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
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_align

from blemish.config.detector_options import RCNNOptions
from blemish.model_file import DecoderSpec, OutputSpec
from blemish.models._anchors import clip, decode, to_centres, with_area
from blemish.models._network import Network
from blemish.models._onnx_ops import suppress
from blemish.models._weights import RESNET_FILES, from_torchvision
from blemish.structures import Task

FIRST_STAGE_TOP = 1000  # anchors a map that are looked at; torchvision's value in evaluation
FIRST_STAGE_IOU = 0.7
LEVEL_OF_224_PIXELS = 4  # a box of 224 px is read from the map of stride 2 ** 4 (FPN, equation 1)
SMALLEST_PROPOSAL, SMALLEST_BOX = 1e-3, 1e-2  # pixels a side; smaller ones are dropped
COCO_ROWS_AND_BACKGROUND = 91  # of torchvision's own detectors
BATCH_NORM_EPSILON = 1e-5  # torch's default, which torchvision's ResNets have
LOSS_NAMES = {
    "loss_objectness": "objectness_loss",
    "loss_rpn_box_reg": "proposal_loss",
    "loss_classifier": "label_loss",
    "loss_box_reg": "box_loss",
    "loss_mask": "mask_loss",
}


class RCNN(Network):
    """Proposals from a feature pyramid, then a label, a box and a mask for each.

    Outputs for n = `max_detections` rows an image, best first, empty rows with score 0 and label -1:
    `boxes` (b, n, 4) corners in network pixels, `scores` (b, n), `labels` (b, n) int64, and for segmentation
    `masks` (b, n, 28, 28), probabilities inside each box.
    """

    owns_loss = True

    def __init__(self, name: str, *, task: Task, label_count: int, options: RCNNOptions) -> None:
        super().__init__()
        self.task, self.label_count = task, label_count
        self.inputs = (options.input_spec((800, 800), "letterbox", letterbox_align="corner"),)
        body, second = name.split("-")[1], name.endswith("-v2")
        whole = _torchvision(body, second, task, label_count, options)
        self.backbone, self.rpn, self.roi_heads = whole.backbone, whole.rpn, whole.roi_heads
        self.proposal_count, self.max_detections = options.proposals, options.max_detections
        self.min_score, self.nms_iou = options.min_score, options.nms_iou
        anchors = _anchors(self.rpn.anchor_generator, self.inputs[0].size_hw)
        self.anchor_counts = [len(a) for a in anchors]
        self.anchors: Tensor
        self.register_buffer("anchors", to_centres(torch.cat(anchors)), persistent=False)
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
        layers = [f"layer{i}" for i in range(1, 5)]
        self.feature_layers = (*(f"backbone.body.{layer}" for layer in layers), "backbone.fpn")
        self.stages = {
            "stem": ("backbone.body.conv1", "backbone.body.bn1"),
            **{layer: (f"backbone.body.{layer}",) for layer in layers},
            "head": ("backbone.fpn", "rpn", "roi_heads"),
        }

    def aliases(self, name: str) -> Sequence[str]:
        """Files of ResNets name its layers alone; torchvision's own first files have other names for some."""
        return (name, name.removeprefix("backbone.body."), first_name(name))

    def translate(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Torchvision's COCO_V1 weights were learned without the batch normalisation's epsilon: see below."""
        return without_epsilon(state)

    def on_weights_loaded(self) -> None:
        """A backbone that began at random learns whole, as in torchvision: frozen noise is of no use."""
        if not any(name.startswith("backbone.body.") for name in self.loaded):
            self.backbone.body.requires_grad_(True)

    def train(self, mode: bool = True) -> RCNN:
        """As torch's, but layers that never change keep their running statistics too."""
        super().train(mode)
        for part in self.backbone.body.modules():
            if isinstance(part, nn.BatchNorm2d) and not part.weight.requires_grad:
                part.eval()
        return self

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Boxes, scores, labels and masks, as the class says."""
        maps = list(self.backbone(inputs[0]).values())
        proposals, found = self._proposals(maps)
        boxes, scores, labels = self._finds(maps, proposals, found)
        if not self.task.has_masks:
            return boxes, scores, labels
        return boxes, scores, labels, self._masks(maps, boxes, scores, labels)

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """`objectness_loss`, `proposal_loss`, `label_loss`, `box_loss` and, for segmentation, `mask_loss`.

        In evaluation mode nothing is learned of the images (running statistics stay), and the
        second stage's random choice of proposals is the same every time.

        Source:
            torchvision's GeneralizedRCNN in training mode, behind its transform.
        """
        image = inputs[0]
        height, width = self.inputs[0].size_hw
        images = ImageList(image, [(height, width)] * len(image))
        rows = []
        for target in targets:
            row = {"boxes": with_area(target["boxes"].float()), "labels": target["labels"] + 1}
            if self.task.has_masks:
                row["masks"] = target["masks"]
            rows.append(row)
        maps = self.backbone(image)
        with self._learning(image.device):
            proposals, first = self.rpn(images, maps, rows)
            _, second = self.roi_heads(maps, proposals, images.image_sizes, rows)
        return {LOSS_NAMES[name]: value for name, value in (first | second).items()}

    @contextmanager
    def _learning(self, device: torch.device) -> Iterator[None]:
        """Both stages as in training, with the layers inside them left in their own mode."""
        if self.training:
            yield
            return
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            self.rpn.training = self.roi_heads.training = True
            try:
                yield
            finally:
                self.rpn.training = self.roi_heads.training = False

    def _proposals(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(b, p, 4) corners, best first, and (b, p) whether there is anything in the row."""
        objectness, offsets = self.rpn.head(list(maps))
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
            best, index = row.topk(min(FIRST_STAGE_TOP, count), 1)
            delta = delta.gather(1, index[..., None].expand(-1, -1, 4)).float()
            box = clip(decode(delta, anchors[index].float(), (1.0, 1.0)), size_hw)
            best = best.sigmoid().masked_fill(_too_small(box, SMALLEST_PROPOSAL), -1.0)
            keep = suppress(box, best, FIRST_STAGE_IOU, -0.5, self.proposal_count)
            boxes.append(box)
            scores.append(best.masked_fill(~keep, -1.0))
        score, index = torch.cat(scores, 1).topk(min(self.proposal_count, sum(s.shape[1] for s in scores)), 1)
        box = torch.cat(boxes, 1).gather(1, index[..., None].expand(-1, -1, 4))
        return box, score >= 0

    def _finds(
        self, maps: Sequence[Tensor], proposals: Tensor, found: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best boxes (b, n, 4), their scores (b, n) and labels (b, n)."""
        batch, count = proposals.shape[:2]
        features = _pool(maps, _with_owner(proposals), 7)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(features))
        scores = logits.float().softmax(-1)[:, 1:].view(batch, count, -1)
        deltas = deltas.float().view(batch, count, -1, 4)[:, :, 1:]
        boxes = decode(deltas, to_centres(proposals)[:, :, None], (0.1, 0.2))
        boxes = clip(boxes, self.inputs[0].size_hw).transpose(1, 2)  # (b, L, p, 4)
        scores = (scores * found[..., None]).transpose(1, 2)  # (b, L, p)
        scores = scores.masked_fill(_too_small(boxes, SMALLEST_BOX), 0.0)
        # Every label of every image is a group of its own.
        groups = boxes.flatten(0, 1), scores.flatten(0, 1)
        keep = suppress(*groups, self.nms_iou, self.min_score, self.max_detections)
        flat = scores.flatten(1) * keep.view(batch, -1)  # (b, L * p)
        best, index = flat.topk(min(self.max_detections, self.label_count * count), 1)
        labels = torch.where(best > 0, index.div(count, rounding_mode="floor"), -1)
        return boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4)), best, labels

    def _masks(self, maps: Sequence[Tensor], boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """(b, n, 28, 28) probabilities of the found label inside each box; 0 where nothing was found."""
        batch, count = scores.shape
        # The mask head costs more than all else on a CPU: it runs for the finds, not for the empty rows.
        finds = (scores.flatten() > 0).nonzero()[:, 0]  # (k,)
        rows = _with_owner(boxes)[finds]
        features = self.roi_heads.mask_head(_pool(maps, rows, 14))
        logits = self.roi_heads.mask_predictor(features)  # (k, 1 + L, 28, 28)
        side = logits.shape[-1]
        index = (labels.flatten()[finds] + 1)[:, None, None, None].expand(-1, 1, side, side)
        masks = logits.gather(1, index)[:, 0].float().sigmoid()
        everywhere: Tensor = masks.new_zeros(batch * count, side, side).index_copy(0, finds, masks)
        return everywhere.view(batch, count, side, side)


def first_name(name: str) -> str:
    """What torchvision called one of its detectors' tensors before 0.13, and in files published since.

    Example:
        >>> first_name("backbone.fpn.inner_blocks.2.0.weight"), first_name("rpn.head.conv.0.0.bias")
        ('backbone.fpn.inner_blocks.2.weight', 'rpn.head.conv.bias')
        >>> first_name("roi_heads.mask_head.0.0.weight")
        'roi_heads.mask_head.mask_fcn1.weight'
    """
    if found := re.fullmatch(r"roi_heads\.mask_head\.(\d)\.0\.(weight|bias)", name):
        return f"roi_heads.mask_head.mask_fcn{int(found[1]) + 1}.{found[2]}"
    name = re.sub(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", name)
    return re.sub(r"^rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", name)


def without_epsilon(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The COCO_V1 weights of Faster and Mask R-CNN, for a network whose batch normalisation has an epsilon.

    They were learned by frozen layers that divided by sqrt(variance) alone. The layers' weights are
    stretched so that dividing by sqrt(variance + epsilon) comes to the same. Such files have COCO's 91 rows
    and, their layers being frozen, no counters of batches. Others are left as they are: of a network that
    was fine-tuned from COCO_V1, the file does not say so.

    Source:
        torchvision.models.detection._utils.overwrite_eps.
    """
    rows = state.get("roi_heads.box_predictor.cls_score.weight")
    counted = any(name.endswith("num_batches_tracked") for name in state)
    if rows is None or len(rows) != COCO_ROWS_AND_BACKGROUND or counted:
        return state
    changed = dict(state)
    for name, variance in state.items():
        if name.startswith("backbone.body.") and name.endswith(".running_var"):
            norm = name.removesuffix(".running_var")
            stretched = ((variance.float() + BATCH_NORM_EPSILON) / variance.float()).sqrt()
            changed[f"{norm}.weight"] = state[f"{norm}.weight"] * torch.where(variance > 0, stretched, 1.0)
    return changed


def _with_owner(boxes: Tensor) -> Tensor:
    """(b * n, 5): number of the image and box, from (b, n, 4)."""
    batch, count = boxes.shape[:2]
    owner = torch.arange(batch, device=boxes.device, dtype=boxes.dtype)[:, None, None]
    return torch.cat((owner.expand(-1, count, 1), boxes), -1).flatten(0, 1)


def _pool(maps: Sequence[Tensor], rows: Tensor, side: int) -> Tensor:
    """(k, c, side, side): each box of (k, 5) read from the map that fits its size.

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


def _too_small(boxes: Tensor, least: float) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] < least).any(-1)


def _anchors(generator: AnchorGenerator, size_hw: tuple[int, int]) -> list[Tensor]:
    """Corners, one tensor a map; the maps of a ResNet's pyramid halve the input two to six times."""
    sizes = [size_hw]
    for _ in range(6):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    maps = [torch.zeros(1, 1, *hw) for hw in sizes[2:]]
    strides = [[torch.tensor(size_hw[axis] // hw[axis]) for axis in (0, 1)] for hw in sizes[2:]]
    generator.set_cell_anchors(torch.float32, torch.device("cpu"))
    found: list[Tensor] = generator.grid_anchors([list(m.shape[-2:]) for m in maps], strides)
    return found


def _torchvision(body: str, second: bool, task: Task, label_count: int, options: RCNNOptions) -> FasterRCNN:
    """Torchvision's own model with random weights; only its parts are used."""
    backbone = _resnet_fpn_extractor(
        resnet.__dict__[body](weights=None),
        options.trainable_backbone_layers,
        norm_layer=nn.BatchNorm2d if second else None,
    )
    sizes = tuple((size,) for size in options.anchor_sizes)
    generator = AnchorGenerator(sizes, (tuple(options.aspect_ratios),) * len(sizes))
    parts: dict[str, Any] = {
        "rpn_anchor_generator": generator,
        "rpn_post_nms_top_n_train": 2 * options.proposals,
        "box_batch_size_per_image": options.sampled_proposals,
    }
    if second:
        wide = backbone.out_channels
        count = generator.num_anchors_per_location()[0]
        parts["rpn_head"] = RPNHead(wide, count, conv_depth=2)
        parts["box_head"] = FastRCNNConvFCHead((wide, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)
        if task.has_masks:
            parts["mask_head"] = MaskRCNNHeads(wide, [256] * 4, 1, norm_layer=nn.BatchNorm2d)
    build = MaskRCNN if task.has_masks else FasterRCNN
    return build(backbone, label_count + 1, **parts)


def build(name: str, *, task: Task, label_count: int, options: RCNNOptions) -> RCNN:
    """Return the network with random weights."""
    return RCNN(name, task=task, label_count=label_count, options=options)


def default_weights(name: str) -> tuple[Path, ...]:
    """Return torchvision's ImageNet weights of the backbone."""
    return (from_torchvision(*RESNET_FILES[name.split("-")[1]]),)
