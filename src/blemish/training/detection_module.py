"""Learning to detect: images with boxes and masks, losses in parts, validation by COCO's rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blemish.decoding import decode
from blemish.model_file import Contract
from blemish.models._network import Network
from blemish.preprocessing import normalize
from blemish.structures import Prediction, Sample
from blemish.training.detection_augmentation import CropParams, draw_view, objects_of, see
from blemish.training.detection_metrics import best_thresholds, measure_detections
from blemish.training.image_dataset import Key, TrainingImageDataset
from blemish.training.lightning_module import ImageLightningModule, unpack_placement
from blemish.training.rng import RngPurpose, stream


class DetectionImageDataset(TrainingImageDataset):
    """Images by (epoch, position), their targets being dictionaries as `Network.loss` takes them.

    Args:
        network: whose inputs and task they are for.
        how: as `TrainingImageDataset` takes it.
    """

    def __init__(self, samples: Sequence[Sample], network: Network, **how: Any) -> None:
        super().__init__(samples, network.inputs, _no_target, **how)
        self.masks = network.task.has_masks
        self.mask_input = network.mask_input

    def __getitem__(self, key: Key) -> dict[str, Any]:
        position = key[1]
        sample = self.samples[position]
        view = CropParams()
        if self.augmentation is not None:
            known = None if sample.ground_truth is None else sample.ground_truth.boxes_xyxy
            boxes = np.zeros((0, 4)) if known is None else known
            random = stream(self.seed, RngPurpose.AUGMENTATION, *key)
            view = draw_view(self.augmentation, random, self.source.size_hw(sample), boxes)
        arrays, placements = [], []
        for spec in self.inputs:
            pixels, placement, shown = see(self.source, sample, spec, view)
            arrays.append(torch.from_numpy(normalize(pixels, spec)))
            placements.append((placement, shown))
        placement, shown = placements[0]
        target = objects_of(
            sample, placement, shown, view.change, masks=self.masks and self.mask_input == 0
        ).as_target()
        if self.masks and self.mask_input:
            # Another look at the same view: its objects are the same, but for those too small to be drawn.
            drawn = objects_of(sample, *placements[self.mask_input], view.change, masks=True).as_target()
            target |= {"masks": drawn["masks"], "mask_labels": drawn["labels"]}
        return {
            "inputs": tuple(arrays),
            "target": target,
            "position": position,
            "placement": np.array(
                [*placement.size_hw, *placement.scale_xy, *placement.offset_xy], np.float64
            ),
        }


class DetectionLightningModule(ImageLightningModule):
    """A detector with its own loss; validation decodes batch by batch, so that no raw output is kept."""

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        super().on_train_epoch_start()
        self._parts: list[dict[str, Tensor]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """() the loss of a batch."""
        inputs = batch["inputs"]
        if self.channels_last:
            inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        parts = self.network.loss(inputs, batch["target"])
        loss: Tensor = torch.stack(list(parts.values())).sum()
        self._parts.append({name: part.detach() for name, part in parts.items()})
        self._losses.append(loss.detach())
        self._sizes.append(len(inputs[0]))
        return self.in_step(loss, batch_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keep the predictions and the loss of a batch."""
        network = self.judged
        network.eval()
        parts = network.loss(batch["inputs"], batch["target"])
        answers = network(*batch["inputs"])
        rows = batch["placement"].cpu().numpy()
        predictions = decode_batch(self.contract, answers, rows)
        size = len(predictions)
        losses = {name: float(part) * size for name, part in parts.items()}
        self._seen.append((batch["position"].cpu().numpy(), predictions, losses))

    def on_validation_epoch_end(self) -> None:
        """Turn predictions into the epoch's row of history."""
        seen = self._seen
        if self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, seen)
            seen = [part for rank in gathered for part in rank]
        count = max(sum(len(part[0]) for part in seen), 1)
        losses = {name: sum(part[2][name] for part in seen) / count for name in (seen[0][2] if seen else {})}
        predictions, samples = in_order(seen, self.validation_samples)
        figures = {f"val_{name}": value for name, value in losses.items()}
        for name in self._parts[0] if self._parts else ():
            figures[f"train_{name}"] = self.mean_of([p[name] for p in self._parts])
        figures |= measure_detections(predictions, samples)
        self.close_epoch(figures, sum(losses.values()))


def evaluate_detector(
    network: Network, contract: Contract, batches: Iterable[dict[str, Any]], samples: Sequence[Sample]
) -> tuple[Contract, dict[str, float], dict[str, Any]]:
    """What the best weights are worth in full precision.

    Returns:
        The contract with a threshold a label, the figures, and the figures as the contract keeps them.
    """
    seen = []
    network.eval()
    device = next(network.parameters()).device
    for batch in batches:
        with torch.inference_mode():
            answers = network(*(x.to(device) for x in batch["inputs"]))
        rows = batch["placement"].numpy()
        seen.append((batch["position"].numpy(), decode_batch(contract, answers, rows)))
    predictions, judged = in_order(seen, samples)
    figures = measure_detections(predictions, judged)
    names = [label.name for label in contract.labels]
    thresholds = dict(zip(names, map(float, best_thresholds(predictions, judged)), strict=True))
    contract = contract.model_copy(update={"thresholds": thresholds, "thresholds_tuned_on": "val"})
    return contract, figures, {"val": {name: round(value, 6) for name, value in figures.items()}}


def _no_target(*_: Any) -> None:
    """Detectors learn from the objects that are still seen, not from what a sample says."""


def decode_batch(
    contract: Contract, answers: Sequence[Tensor], placement_rows: np.ndarray
) -> list[Prediction]:
    """Predictions of a batch, in the images' own pixels.

    Args:
        contract: names the decoder.
        answers: of the network, in the order of the contract's outputs.
        placement_rows: (b, 6), as `collate` packs placements.
    """
    outputs = {
        spec.name: (a.float() if a.is_floating_point() else a).cpu().numpy()
        for spec, a in zip(contract.outputs, answers, strict=True)
    }
    input_hw = contract.inputs[0].size_hw
    return decode(contract, outputs, [unpack_placement(row, input_hw) for row in placement_rows])


def in_order(
    seen: Sequence[tuple[Any, ...]], samples: Sequence[Sample]
) -> tuple[list[Prediction], list[Sample]]:
    """Predictions of batches in the order of the samples, each once, and their samples."""
    by_position = {
        int(position): prediction
        for positions, predictions, *_ in seen
        for position, prediction in zip(positions, predictions, strict=True)
    }
    order = sorted(by_position)
    return [by_position[i] for i in order], [samples[i] for i in order]
