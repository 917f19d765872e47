"""The Lightning module of a detector: a loss in parts, and validation with COCO's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blemish.decoding import decode
from blemish.model_file import Contract
from blemish.models._network import Network
from blemish.structures import Prediction, Sample
from blemish.training.detection_metrics import best_thresholds, measure_detections
from blemish.training.health_callback import EXAMPLES
from blemish.training.lightning_module import ImageLightningModule, unpack_placement
from blemish.training.monitored_metrics import loss_key


class DetectionLightningModule(ImageLightningModule):
    """A detector with its own loss. Validation decodes batch by batch, so that no raw outputs are kept.

    Attributes:
        examples: validation images with objects, and their predictions in the last epoch.
    """

    examples: Sequence[tuple[Sample, Prediction]] = ()

    def on_train_epoch_start(self) -> None:
        """Start an epoch."""
        super().on_train_epoch_start()
        self.network.start_epoch(self.epoch, self.recipe.training.epochs)
        self._loss_parts: list[dict[str, Tensor]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the loss of a batch, ()."""
        inputs = self.in_memory_format(batch["inputs"])
        parts = self.network.loss(inputs, batch["target"])
        loss: Tensor = torch.stack(list(parts.values())).sum()
        self._loss_parts.append({name: part.detach() for name, part in parts.items()})
        self._losses.append(loss.detach())
        self._batch_sizes.append(len(inputs[0]))
        return self.scale_to_step(loss, batch_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keep the predictions and the loss of a batch."""
        network = self.eval_network  # in evaluation mode, by Lightning
        outputs, parts = network.forward_and_loss(self.in_memory_format(batch["inputs"]), batch["target"])
        predictions = decode_batch(self.contract, outputs, batch["placement"].cpu().numpy())
        losses = {name: float(part) * len(predictions) for name, part in parts.items()}
        self._results.append((batch["position"].cpu().numpy(), predictions, losses))

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the epoch and add them to the history."""
        results = self.gathered_results()
        count = max(sum(len(positions) for positions, *_ in results), 1)
        losses = {
            name: sum(losses[name] for *_, losses in results) / count
            for name in (results[0][2] if results else {})
        }
        predictions, samples = sort_predictions(results, self.validation_samples)
        pairs = [pair for pair in zip(samples, predictions, strict=True) if len(pair[0].ground_truth or ())]
        self.examples = pairs[:: max(len(pairs) // EXAMPLES, 1)][:EXAMPLES]
        metrics = {loss_key("val", name): value for name, value in losses.items()}
        for name in self._loss_parts[0] if self._loss_parts else ():
            metrics[loss_key("train", name)] = self.mean_of([parts[name] for parts in self._loss_parts])
        metrics |= measure_detections(predictions, samples)
        self.close_epoch(metrics, sum(losses.values()))


def evaluate_detector(
    network: Network,
    contract: Contract,
    batches: Iterable[dict[str, Any]],
    samples: Sequence[Sample],
    min_precision: float | None = None,
) -> tuple[Contract, dict[str, float], dict[str, Any]]:
    """Measure the best weights in full precision, and choose a threshold for each label.

    Args:
        network: with the best weights.
        contract: names the decoder.
        batches: of the validation images.
        samples: the validation images.
        min_precision: the precision that is required of each label, or None.

    Returns:
        The contract with the thresholds, the metrics, and the metrics in the contract's form.
    """
    results = []
    network.eval()
    device = next(network.parameters()).device
    for batch in batches:
        with torch.inference_mode():
            outputs = network(*(x.to(device) for x in batch["inputs"]))
        rows = batch["placement"].numpy()
        results.append((batch["position"].numpy(), decode_batch(contract, outputs, rows)))
    predictions, sorted_samples = sort_predictions(results, samples)
    metrics = measure_detections(predictions, sorted_samples)
    names = [label.name for label in contract.labels]
    thresholds, evidence = best_thresholds(predictions, sorted_samples, min_precision)
    contract = contract.model_copy(
        update={
            "thresholds": dict(zip(names, map(float, thresholds), strict=True)),
            "thresholds_tuned_on": "val",
            "threshold_evidence": dict(zip(names, evidence, strict=True)),
        }
    )
    return contract, metrics, {"val": {name: round(value, 6) for name, value in metrics.items()}}


def decode_batch(
    contract: Contract, outputs: Sequence[Tensor], placement_rows: np.ndarray
) -> list[Prediction]:
    """Return the predictions of a batch in pixels of the images.

    Args:
        contract: names the decoder.
        outputs: of the network, in the order of the contract's outputs.
        placement_rows: (b, 6), as `collate` packs placements.
    """
    arrays = {
        spec.name: (x.float() if x.is_floating_point() else x).cpu().numpy()
        for spec, x in zip(contract.outputs, outputs, strict=True)
    }
    input_hw = contract.inputs[0].size_hw
    return decode(contract, arrays, [unpack_placement(row, input_hw) for row in placement_rows])


def sort_predictions(
    results: Sequence[tuple[Any, ...]], samples: Sequence[Sample]
) -> tuple[list[Prediction], list[Sample]]:
    """Return the predictions of batches in the order of the samples, each once, and their samples.

    Args:
        results: (positions, predictions, …) of each batch.
        samples: the samples that the positions count.
    """
    by_position = {
        int(position): prediction
        for positions, predictions, *_ in results
        for position, prediction in zip(positions, predictions, strict=True)
    }
    order = sorted(by_position)
    return [by_position[i] for i in order], [samples[i] for i in order]
