"""YOLO26: Ultralytics' detectors whose best boxes need no suppression; see `yolo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from blemish.config.detector_options import YOLO26Options
from blemish.model_file import DecoderSpec, OutputSpec
from blemish.models.architectures.yolo import YOLO, _masks
from blemish.structures import Task

FIRST_SHARE, LAST_SHARE = 0.8, 0.1  # of the loss of the head with many boxes per object


class YOLO26(YOLO):
    """A one-stage detector with two heads: many boxes per object train it, one box per object is predicted.

    The outputs are those of the q candidates with the highest scores: `scores` (b, q, L), `boxes` (b, q, 4),
    center and size in network pixels, and for segmentation `masks` (b, q, h / 4, w / 4), logits.
    """

    def __init__(self, name: str, *, task: Task, label_count: int, options: YOLO26Options) -> None:
        super().__init__(name, task=task, label_count=label_count, options=options)
        self._share = FIRST_SHARE
        self._count = min(options.max_detections, self.points.shape[1])
        self.outputs = (
            OutputSpec(name="scores", role="scores", activation="probabilities"),
            OutputSpec(name="boxes", role="boxes"),
        )
        if task.has_masks:
            self.outputs += (OutputSpec(name="masks", role="masks", activation="logits"),)
        self.decoder = DecoderSpec(
            name="set",
            settings={
                "box_format": "cxcywh",
                "normalized": False,
                "min_score": options.min_score,
                "max_detections": self._count,
            },
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return scores, boxes and, for segmentation, masks of the best candidates; see the class."""
        return self._predict(self._maps(inputs[0]))

    def _predict(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        head = self.model.model[-1]
        raw = head.forward_head(maps, **head.one2one)
        scores = raw["scores"].sigmoid()  # (b, L, n)
        best = scores.amax(1).topk(self._count).indices  # (b, q)

        def choose(values: Tensor) -> Tensor:
            return values.gather(2, best[:, None].expand(-1, values.shape[1], -1)).transpose(1, 2)

        outputs = choose(scores), choose(self._boxes(raw))
        if not self.task.has_masks:
            return outputs
        prototypes = head.proto(maps)
        prototypes = prototypes[0] if isinstance(prototypes, tuple) else prototypes
        return *outputs, torch.einsum("bqc,bchw->bqhw", choose(raw["mask_coefficient"]), prototypes)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Move the weight of the loss from the head with many boxes per object to the head with one.

        Source:
            Ultralytics' E2ELoss.
        """
        left = max(1 - epoch / max(epochs - 1, 1), 0.0)
        self._share = left * (FIRST_SHARE - LAST_SHARE) + LAST_SHARE

    def loss(self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return `box_loss`, `label_loss`, `distance_loss` and, for segmentation, mask and semantic losses.

        Source:
            Ultralytics' v8DetectionLoss and SegmentLoss26 in an E2ELoss, with their default gains.
        """
        return self._losses_of_maps(self._maps(inputs[0]), inputs[0], targets)

    def forward_and_loss(
        self, inputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return the outputs and the losses of one batch; the layers before the heads run once."""
        maps = self._maps(inputs[0])
        return self._predict(maps), self._losses_of_maps(maps, inputs[0], targets)

    def _losses_of_maps(
        self, maps: list[Tensor], image: Tensor, targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Any]:
        from ultralytics.utils.loss import SegmentLoss26, v8DetectionLoss

        head = self.model.model[-1]
        many = head.forward_head(maps, **head.one2many)
        one = head.forward_head([m.detach() for m in maps], **head.one2one)  # does not train the backbone
        batch = self._batch(image, targets)
        if self.task.has_masks:
            prototypes = head.proto(maps)
            masks = prototypes[0] if isinstance(prototypes, tuple) else prototypes
            batch["masks"] = _masks(targets, masks)
            batch["sem_masks"] = _semantic(batch["masks"], targets, len(image))
            many["proto"] = prototypes
            one["proto"] = (
                tuple(p.detach() for p in prototypes)
                if isinstance(prototypes, tuple)
                else prototypes.detach()
            )
        build = SegmentLoss26 if self.task.has_masks else v8DetectionLoss
        of_many, _ = self._watched(build(self.model, tal_topk=10), targets).loss(many, batch)
        of_one, _ = build(self.model, tal_topk=7, tal_topk2=1).loss(one, batch)
        total = (of_many * self._share + of_one * (1 - self._share)) / len(image)
        names = ["box_loss", "label_loss", "distance_loss"]
        if self.task.has_masks:
            names = ["box_loss", "mask_loss", "label_loss", "distance_loss", "semantic_loss"]
        return dict(zip(names, total, strict=True))


def _semantic(masks: Tensor, targets: Sequence[Mapping[str, Tensor]], images: int) -> Tensor:
    """Return (b, h, w) float32 label numbers, the smallest object on top; 0 where there is none.

    Args:
        masks: (n, h, w) float32 of a batch, in the order of the targets.
        targets: of the images.
        images: b.
    """
    out = masks.new_zeros(images, *masks.shape[1:])
    start = 0
    for row, target in enumerate(targets):
        labels = target["labels"].to(masks)
        own = masks[start : start + len(labels)]
        start += len(labels)
        for position in own.sum((1, 2)).argsort(descending=True, stable=True).tolist():
            out[row] = torch.where(own[position] > 0.5, labels[position], out[row])
    return out


def build(name: str, *, task: Task, label_count: int, options: YOLO26Options) -> YOLO26:
    """Return the network with random weights."""
    return YOLO26(name, task=task, label_count=label_count, options=options)
