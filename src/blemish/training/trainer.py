"""One training under way: data and network in, best weights judged and exported."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import Dataset

from blemish.config.recipe import Recipe
from blemish.config.split_file import write_split_file
from blemish.errors import TrainingFailed
from blemish.export import export_trained
from blemish.export.run_export import MODEL_NAME
from blemish.model_file import Contract, ModelFile, write_atomically
from blemish.models._logging_filter import silence
from blemish.models._network import Network
from blemish.models._torch_backend import TorchBackend
from blemish.training.auto_batch_size import find_batch_size
from blemish.training.callbacks import ProgressBar, RunLogger, SignalHandler
from blemish.training.checkpoint import CheckpointStore, leftovers
from blemish.training.data_setup import SHOWN, TrainingData
from blemish.training.dataloaders import DataModule, worker_count
from blemish.training.detection_module import (
    DetectionImageDataset,
    DetectionLightningModule,
    evaluate_detector,
)
from blemish.training.distributed import rank_of
from blemish.training.feature_cache import can_keep_features, keep_features
from blemish.training.image_cache import ResizedImageCache
from blemish.training.image_dataset import EpochBatchSampler, ImageSource, TrainingImageDataset
from blemish.training.lightning_module import ImageLightningModule, gather
from blemish.training.lightning_trainer import build_trainer, rewrap_errors
from blemish.training.losses import ImageLoss, label_weights, sampling_weights
from blemish.training.network_setup import draft_contract
from blemish.training.optimizers import freeze
from blemish.training.targets import target_of
from blemish.training.validation import measure, tuned

_log = logging.getLogger("blemish.training")


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    Attributes:
        path: the folder.
        metrics: on the validation images, of the best epoch's weights; multilabel verdicts at .5.
        model_file: the model file, proved to decide as it does; of several nodes the first writes it.
        best_epoch: counted from 1.
        history: one row of figures an epoch.
        rank: of this process among those that learned together; 0 alone wrote files.
    """

    path: Path
    metrics: dict[str, float]
    model_file: Path
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)
    rank: int = 0


@dataclass
class Trainer:
    """One training under way.

    Attributes:
        recipe: resolved; `auto` is filled in while it runs.
        data: images in their splits.
        network: filled with what it starts from.
        folder: of the run.
        device: where it learns.
        state: of a checkpoint to go on from, or None.
        progress: whether to show a bar.
    """

    recipe: Recipe
    data: TrainingData
    network: Network
    folder: Path
    device: torch.device
    state: dict[str, Any] | None = None
    progress: bool = False

    def run(self) -> Run:
        """Learn, or go on learning; judge the best epoch, and export it."""
        still = freeze(
            self.network,
            self.recipe.model.trainable,
            batch_norm_frozen=self.recipe.training.batch_norm == "frozen",
        )
        if self.recipe.training.batch_size == "auto":
            size = find_batch_size(self.network, self.device, len(self.data.train))
            self.recipe = self.recipe.changed({"training.batch_size": size})
            _log.info("batch size %d", size, extra=SHOWN)
        checkpoints = CheckpointStore(self.folder / "checkpoints")
        rank = rank_of(self.recipe.training)
        if rank == 0:
            write_atomically(self.folder / "recipe.yaml", self.recipe.to_yaml().encode())
            write_split_file(self.data.dataset, self.folder / "split.csv")
            for path in leftovers(checkpoints.folder):
                path.unlink(missing_ok=True)
        contract = draft_contract(self.recipe, self.network, self.data)
        state = self.state
        if state is None or not self._is_over(state):
            module = self._fit(contract, still, state)
            # Processes that others started look at what they learned; of those we started, at what was saved.
            state = checkpoints.newest() if rank == 0 else module.standing()
        assert state is not None  # noqa: S101  (an epoch was complete)
        if not state["best_epoch"]:
            raise TrainingFailed(
                f"{self.folder}: {self._monitor()} was never a number, so no epoch could be chosen; "
                "lower training.optimizer.learning_rate, or monitor another figure"
            )
        if rank:
            best = state["history"][int(state["best_epoch"]) - 1]
            path = self.folder / MODEL_NAME
            return Run(self.folder, best, path, int(state["best_epoch"]), state["history"], rank)
        self.network.load_state_dict(checkpoints.best_weights(int(state["best_epoch"])))
        return self._finish(contract, state)

    def _is_over(self, state: Mapping[str, Any]) -> bool:
        part = self.recipe.training
        return state["epoch"] >= part.epochs or (
            part.patience is not None and state["waiting"] >= part.patience
        )

    def _fit(
        self, contract: Contract, still: Sequence[str], state: dict[str, Any] | None
    ) -> ImageLightningModule:
        part = self.recipe.training
        first_epoch = 0 if state is None else int(state["epoch"])
        workers = self._workers
        images = (
            self._images(self.data.train, augmented=True),
            self._images(self.data.validation, augmented=False),
        )
        train: Dataset[Any]
        validation: Dataset[Any]
        train, validation = images
        kept = can_keep_features(self.network, self.recipe)
        if kept:
            size = part.validation_batch_size or self._batch_size
            train, validation = (
                keep_features(self.network, shown, size, self.device, workers) for shown in images
            )
            workers = 0
        loaders = DataModule(
            train,
            validation,
            part,
            weights=sampling_weights(self.data.train, self.network.label_count)
            if part.balanced_sampling
            else None,
            first_epoch=first_epoch,
            workers=workers,
            pinned=self.device.type == "cuda",
        )
        monitor = self._monitor()
        interruption = SignalHandler(self.folder, alone=part.devices * part.nodes == 1)
        callbacks: list[pl.Callback] = [
            RunLogger(self.folder, part.patience),
            ProgressBar(part.epochs, monitor, quiet=not self.progress),
            interruption,
        ]
        batches = self._batches_per_epoch()
        learning = DetectionLightningModule if self.network.owns_loss else ImageLightningModule
        module = learning(
            self.network,
            self.recipe,
            contract,
            self._loss(),
            steps_per_epoch=-(-batches // part.accumulate_grad_batches),
            validation_samples=self.data.validation,
            monitor=monitor,
            still=still,
            state=state,
        )
        module.from_features = kept
        module.channels_last = self._channels_last()
        with silence(), rewrap_errors(), interruption:
            trainer = build_trainer(
                self.recipe, self.device, self.folder, callbacks, epochs=part.epochs - first_epoch
            )
            trainer.fit(module, datamodule=loaders)
        return module

    def _channels_last(self) -> bool:
        wish = self.recipe.training.channels_last
        if wish is not None:
            return wish
        # What tensor cores are made for, and a tenth faster on a CPU; a GPU in full precision wins nothing.
        half = self.recipe.training.precision != "fp32"
        return self.device.type == "cpu" or (self.device.type == "cuda" and half)

    def _images(self, samples: Sequence[Any], *, augmented: bool) -> TrainingImageDataset:
        how: dict[str, Any] = {
            "augmentation": self.recipe.augmentation if augmented else None,
            "seed": self.recipe.training.seed,
            "source": self._source(len(samples), augmented=augmented),
        }
        if self.network.owns_loss:
            return DetectionImageDataset(samples, self.network, **how)
        return TrainingImageDataset(samples, self.network.inputs, target_of(self.network), **how)

    def _source(self, count: int, *, augmented: bool) -> ImageSource | None:
        room, part = int(self.recipe.data.image_cache_gb * 1e9), self.recipe.training
        if not room or self.network.owns_loss:
            return None
        crop = self.recipe.augmentation.random_resized_crop if augmented else None
        writers = max(self._workers, 1) * part.devices * part.nodes
        share = count / (len(self.data.train) + len(self.data.validation)) / writers
        return ResizedImageCache(self.network.inputs, crop, room, share=share)

    @property
    def _workers(self) -> int:
        return worker_count(self.recipe.training, on_cpu=self.device.type == "cpu")

    def _loss(self) -> ImageLoss:
        task, part = self.network.task, self.recipe.training.loss
        weights = None
        if part.class_weights == "balanced" and task.is_image_level:
            weights = label_weights(self.data.train, task, self.network.label_count)
        return ImageLoss(task, part, weights)

    def _monitor(self) -> str:
        return self.recipe.training.monitor or self.network.task.primary_metric

    def _batches_per_epoch(self) -> int:
        part = self.recipe.training
        return len(EpochBatchSampler(len(self.data.train), self._batch_size, world=part.devices * part.nodes))

    @property
    def _batch_size(self) -> int:
        size = self.recipe.training.batch_size
        assert isinstance(size, int)  # noqa: S101  (auto was resolved)
        return size

    def _finish(self, contract: Contract, state: Mapping[str, Any]) -> Run:
        network = self.network.to(self.device).eval()
        contract, plain, metrics = self._judged(network, contract)
        contract = contract.model_copy(
            update={
                "metrics": metrics,
                "training": {
                    "seed": self.recipe.training.seed,
                    "epochs": int(state["epoch"]),
                    "best_epoch": int(state["best_epoch"]),
                    "monitor": self._monitor(),
                    "weights": Path(self.recipe.model.weights).name,
                    "device": self.device.type,
                    "versions": {
                        "python": platform.python_version(),
                        "torch": torch.__version__,
                        "lightning": pl.__version__,
                    },
                },
            }
        )
        made: ModelFile = export_trained(
            network.cpu(),
            output=self.folder,
            contract=contract,
            samples=self.data.validation,
            fingerprints=self.data.fingerprints,
        )
        _log.info("model file %s, best epoch %d", made.path, state["best_epoch"])
        return Run(self.folder, plain, made.path, int(state["best_epoch"]), list(state["history"]))

    def _judged(
        self, network: Network, contract: Contract
    ) -> tuple[Contract, dict[str, float], dict[str, Any]]:
        """The contract with what validation chose, the figures, and those that the contract keeps."""
        if network.owns_loss:
            return evaluate_detector(network, contract, self._validation(), self.data.validation)
        outputs = self._outputs(network, contract)
        plain = measure(contract, outputs)
        contract = tuned(contract, outputs)
        metrics: dict[str, Any] = {"val": {name: round(value, 6) for name, value in plain.items()}}
        if contract.thresholds_tuned_on:
            at_thresholds = measure(contract, outputs)
            metrics["val at chosen thresholds"] = {
                **{name: round(value, 6) for name, value in at_thresholds.items()},
                "tuned": True,
            }
        return contract, plain, metrics

    def _validation(self) -> Any:
        images = self._images(self.data.validation, augmented=False)
        return DataModule(images, images, self.recipe.training).val_dataloader()

    def _outputs(self, network: Network, contract: Contract) -> Any:
        """The raw outputs of the best weights in full precision, on the validation images."""
        backend = TorchBackend(network)
        seen = []
        for batch in self._validation():
            feeds = {spec.name: x.numpy() for spec, x in zip(network.inputs, batch["inputs"], strict=True)}
            answers = backend.run(feeds)
            arrays = [answers[spec.name] for spec in network.outputs]
            seen.append((batch["position"].numpy(), batch["placement"].numpy(), arrays, 0.0))
        return gather(contract, seen, self.data.validation)[0]
