"""One training run: train, select the best epoch, evaluate and export it."""

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

from blemish.config.recipe import MODEL_NAME, RECIPE_NAME, Recipe
from blemish.config.split_file import write_split_file
from blemish.errors import TrainingFailed
from blemish.evaluation.decode_choice import choose_decode, describe_choice
from blemish.model_file import Contract, ModelFile, write_atomically
from blemish.models._logging_filter import silence
from blemish.models._network import Network
from blemish.models._torch_backend import TorchBackend
from blemish.pretrained import describe_sources
from blemish.training.auto_batch_size import find_batch_size
from blemish.training.callback_registry import NamedCallback
from blemish.training.callbacks import ProgressBar, RunLogger, SignalHandler, UserCallbacks
from blemish.training.checkpoint import CheckpointStore, find_leftovers
from blemish.training.data_setup import SHOWN, SPLIT_NAME, TrainingData, hash_contents
from blemish.training.dataloaders import DataModule, Loader, worker_count
from blemish.training.decoded_images import DecodedImages
from blemish.training.detection_dataset import DetectionImageDataset
from blemish.training.detection_module import DetectionLightningModule, evaluate_detector
from blemish.training.distributed import rank_of
from blemish.training.experiment_logs import (
    ExperimentLogs,
    build_loggers,
    run_tags,
    translate_logger_errors,
)
from blemish.training.export_progress import ExportProgress
from blemish.training.feature_cache import cache_features, can_cache_features
from blemish.training.health_callback import TrainingHealth, describe_tiny_objects
from blemish.training.image_cache import ResizedImageCache
from blemish.training.image_dataset import TrainingImageDataset
from blemish.training.image_loss import ImageLoss
from blemish.training.image_source import ImageSource
from blemish.training.lightning_module import ImageLightningModule, gather
from blemish.training.lightning_trainer import build_trainer, rewrap_errors
from blemish.training.losses import label_weights, sampling_weights
from blemish.training.memory_format import MIN_STEPS, choose_channels_last, pointwise_by_onednn
from blemish.training.network_setup import draft_contract
from blemish.training.optimizers import freeze
from blemish.training.step_count import count_batches, count_steps
from blemish.training.step_settings import count_mixed_epochs, describe_steps, scale_to_batch
from blemish.training.targets import encoder_of
from blemish.training.validation import Outputs, calibrate, measure

_log = logging.getLogger("blemish.training")


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        path: the run's folder.
        metrics: of the best epoch on the validation images; multilabel decisions at a threshold of 0.5.
        model_file: the model file; with several nodes, the first one writes it.
        best_epoch: the exported epoch, counted from 1: the best or, with `export_epoch: last`, the last.
        history: one row of metrics per epoch.
        rank: of this process among those that trained together; only rank 0 writes files.
    """

    path: Path
    metrics: dict[str, float]
    model_file: Path
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)
    rank: int = 0


@dataclass
class Trainer:
    """A training run with everything it needs.

    Attributes:
        recipe: the resolved recipe; `run` replaces `batch_size: auto` in it.
        data: the images in their splits.
        network: with its weights loaded.
        folder: of the run.
        device: where the network is trained.
        state: of the checkpoint to resume from, or None.
        progress: whether to show a progress bar.
        callbacks: of the recipe and of the caller.
    """

    recipe: Recipe
    data: TrainingData
    network: Network
    folder: Path
    device: torch.device
    state: dict[str, Any] | None = None
    progress: bool = False
    callbacks: Sequence[NamedCallback] = ()

    def run(self) -> Run:
        """Train or resume, evaluate the best epoch and export it.

        Raises:
            TrainingFailed: training cannot continue, or the monitored metric was never a number
                ("training-failed.no-best-epoch").
            ExportRefused: the model file does not decide as the network does.
        """
        frozen_modules = freeze(
            self.network,
            self.recipe.model.trainable,
            batch_norm_frozen=self.recipe.training.batch_norm == "frozen",
        )
        if self.recipe.training.batch_size == "auto":
            size = find_batch_size(self.network, self.device, len(self.data.train))
            self.recipe = self.recipe.changed({"training.batch_size": size})
            _log.info("batch size %d", size, extra=SHOWN)
        nominal = self.recipe.training.optimizer.nominal_batch_size
        self.recipe = scale_to_batch(self.recipe)
        if self.state is None and (line := describe_steps(self.recipe, self._steps_per_epoch, nominal)):
            _log.info("%s", line, extra=SHOWN)
        self.recipe = self.recipe.changed({"training.channels_last": self._channels_last()})
        checkpoints = CheckpointStore(self.folder / "checkpoints")
        rank = rank_of(self.recipe.training)
        if rank == 0:
            write_atomically(self.folder / RECIPE_NAME, self.recipe.to_yaml().encode())
            write_split_file(self.data.dataset, self.folder / SPLIT_NAME)
            for path in find_leftovers(checkpoints.folder):
                path.unlink(missing_ok=True)
        contract = draft_contract(self.recipe, self.network, self.data)
        state = self.state
        if state is None or not self._is_finished(state):
            module = self._fit(contract, frozen_modules, state)
            # A process that a launcher started reads its module; ours may have started others, which saved.
            state = checkpoints.newest() if rank == 0 else module.progress.state()
        assert state is not None  # noqa: S101  (an epoch was completed)
        best_epoch = int(state["best_epoch"])
        if not best_epoch:
            raise TrainingFailed(
                f"{self.folder}: {self._monitor} was never a number, so that no epoch is the best. Lower "
                "training.optimizer.learning_rate, or monitor another metric",
                reason="no-best-epoch",
            )
        if rank:
            metrics, path = state["history"][best_epoch - 1], self.folder / MODEL_NAME
            return Run(self.folder, metrics, path, best_epoch, state["history"], rank)
        self.network.load_state_dict(checkpoints.best_weights(best_epoch))
        return self._export(contract, state)

    def _is_finished(self, state: Mapping[str, Any]) -> bool:
        training = self.recipe.training
        is_stopped_early = training.patience is not None and state["waiting"] >= training.patience
        return state["epoch"] >= training.epochs or is_stopped_early

    def _fit(
        self, contract: Contract, frozen_modules: Sequence[str], state: dict[str, Any] | None
    ) -> ImageLightningModule:
        """Train the remaining epochs and return the module."""
        training = self.recipe.training
        first_epoch = 0 if state is None else int(state["epoch"])
        from_features = can_cache_features(self.network, self.recipe)
        world = training.devices * training.nodes
        handler = SignalHandler(self.folder, alone=world == 1)
        tags = run_tags(self.recipe, hash_contents(self.data) if training.loggers else "")
        callbacks: list[pl.Callback] = [
            RunLogger(self.folder, training.patience),
            ExperimentLogs(self.recipe, self.folder, tags, self._monitor),
            ProgressBar(training.epochs, self._monitor, quiet=not self.progress),
            handler,
            TrainingHealth(self.folder),
            UserCallbacks(self.callbacks, self.recipe, self.folder),
        ]
        if tiny := describe_tiny_objects(self.data.train, self.network.inputs[0]):
            _log.warning("%s", tiny)
        kind = DetectionLightningModule if self.network.owns_loss else ImageLightningModule
        module = kind(
            self.network,
            self.recipe,
            contract,
            self._loss(),
            steps_per_epoch=self._steps_per_epoch,
            validation_samples=self.data.validation,
            monitor=self._monitor,
            frozen_modules=frozen_modules,
            state=state,
        )
        module.from_features = from_features
        module.channels_last = bool(self.recipe.training.channels_last)
        loaders = self._loaders(first_epoch, from_features=from_features)
        with silence(), rewrap_errors(), translate_logger_errors(), handler:
            trainer = build_trainer(
                self.recipe,
                self.device,
                self.folder,
                callbacks,
                loggers=build_loggers(self.recipe, self.folder, tags),
                epochs=training.epochs - first_epoch,
            )
            on_cpu = self.device.type == "cpu"
            with pointwise_by_onednn(*filter(None, (module.network, module.averaged)) if on_cpu else ()):
                trainer.fit(module, datamodule=loaders)
        return module

    def _loaders(self, first_epoch: int, *, from_features: bool) -> DataModule:
        training, workers = self.recipe.training, self._workers
        train: Dataset[Any] = self._images(self.data.train, augmented=True)
        validation: Dataset[Any] = self._images(self.data.validation, augmented=False)
        if from_features:
            size = training.validation_batch_size or self._batch_size
            train, validation = (
                cache_features(self.network, images, size, self.device, workers)
                for images in (train, validation)
                if isinstance(images, TrainingImageDataset)
            )
            workers = 0
        weights = None
        if training.balanced_sampling:
            weights = sampling_weights(self.data.train, self.network.label_count)
        return DataModule(
            train,
            validation,
            training,
            weights=weights,
            first_epoch=first_epoch,
            workers=workers,
            pinned=self.device.type == "cuda",
        )

    def _channels_last(self) -> bool:
        """Return the recipe's memory format; where it leaves the choice, the one that is faster."""
        training = self.recipe.training
        if training.channels_last is not None:
            return training.channels_last
        if self.device.type != "cpu":
            # Tensor cores need it; in full precision a GPU gains nothing.
            return self.device.type == "cuda" and training.precision != "fp32"
        if self.state is not None:
            return True  # a run of an earlier version, whose recipe did not state its format
        world = training.devices * training.nodes
        steps = training.epochs * self._steps_per_epoch
        if world > 1 or steps < MIN_STEPS or can_cache_features(self.network, self.recipe):
            return False
        self.network.train()
        chosen = choose_channels_last(self.network, self._batch_size, training.precision)
        _log.info("memory format: %s is faster here", "channels-last" if chosen else "contiguous")
        return chosen

    def _images(self, samples: Sequence[Any], *, augmented: bool) -> TrainingImageDataset:
        options: dict[str, Any] = {
            "augmentation": self.recipe.augmentation if augmented else None,
            "seed": self.recipe.training.seed,
            "source": self._source(len(samples), augmented=augmented),
        }
        if self.network.owns_loss:
            mixed = count_mixed_epochs(
                self.recipe.augmentation, self.recipe.training.epochs, self._steps_per_epoch
            )
            return DetectionImageDataset(samples, self.network, mixed_epochs=mixed, **options)
        return TrainingImageDataset(samples, self.network.inputs, encoder_of(self.network), **options)

    def _source(self, count: int, *, augmented: bool) -> ImageSource | None:
        """Return the image cache for a share of its space by the number of images; None for the files."""
        data, training = self.recipe.data, self.recipe.training
        if self.network.owns_loss:
            in_memory = int(data.memory_cache_gb * 1e9 / max(self._workers, 1))
            return DecodedImages(in_memory) if augmented and in_memory else None
        max_bytes = int(data.image_cache_gb * 1e9)
        if not max_bytes:
            return None
        crop = self.recipe.augmentation.random_resized_crop if augmented else None
        writers = max(self._workers, 1) * training.devices * training.nodes
        share = count / (len(self.data.train) + len(self.data.validation)) / writers
        return ResizedImageCache(self.network.inputs, crop, max_bytes, share=share)

    @property
    def _workers(self) -> int:
        return worker_count(self.recipe.training, on_cpu=self.device.type == "cpu")

    def _loss(self) -> ImageLoss:
        task, config = self.network.task, self.recipe.training.loss
        weights = None
        if config.class_weights == "balanced" and task.is_image_level:
            weights = label_weights(self.data.train, task, self.network.label_count)
        return ImageLoss(task, config, weights)

    @property
    def _steps_per_epoch(self) -> int:
        training = self.recipe.training
        batches = count_batches(len(self.data.train), self._batch_size, training.devices * training.nodes)
        return count_steps(batches, training.accumulate_grad_batches)

    @property
    def _monitor(self) -> str:
        return self.recipe.training.monitor or self.network.task.primary_metric

    @property
    def _batch_size(self) -> int:
        size = self.recipe.training.batch_size
        assert isinstance(size, int)  # noqa: S101  (`auto` was replaced)
        return size

    def _export(self, contract: Contract, state: Mapping[str, Any]) -> Run:
        """Evaluate the best weights, write the model file and return the run."""
        from blemish.export import export_trained  # its packages are not needed before

        network = self.network.to(self.device).eval()
        if self.recipe.data.decode == "auto":
            contract = choose_decode(TorchBackend(network), contract, self.data.validation)
            network.inputs = contract.inputs
            _log.info("%s", describe_choice(contract), extra=SHOWN)
        contract, metrics, recorded = self._evaluate(network, contract)
        training = {
            **contract.training,
            "seed": self.recipe.training.seed,
            "epochs": int(state["epoch"]),
            "best_epoch": int(state["best_epoch"]),
            "monitor": self._monitor,
            "export_epoch": self.recipe.training.export_epoch,
            **describe_sources(self.network.weight_sources, Path(self.recipe.model.weights).name),
            "device": self.device.type,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "lightning": pl.__version__,
            },
        }
        if contract.task.is_image_level:
            training["temperature_fitted_on"] = "val"
        with ExportProgress(quiet=not self.progress) as report_progress:
            file: ModelFile = export_trained(
                network.cpu(),
                output=self.folder,
                contract=contract.model_copy(update={"metrics": recorded, "training": training}),
                samples=self.data.validation,
                train=self.data.train,
                fingerprints=self.data.fingerprints,
                report_progress=report_progress,
            )
        _log.info("model file %s, exported epoch %d", file.path, state["best_epoch"])
        return Run(self.folder, metrics, file.path, int(state["best_epoch"]), list(state["history"]))

    def _evaluate(
        self, network: Network, contract: Contract
    ) -> tuple[Contract, dict[str, float], dict[str, Any]]:
        """Return the calibrated contract, the metrics, and the metrics in the contract's form."""
        if network.owns_loss:
            return evaluate_detector(
                network,
                contract,
                self._validation_loader(),
                self.data.validation,
                self.recipe.training.min_precision,
            )
        outputs = self._validation_outputs(network, contract)
        metrics = measure(contract, outputs)
        contract = calibrate(contract, outputs, min_precision=self.recipe.training.min_precision)
        recorded: dict[str, Any] = {"val": {name: round(value, 6) for name, value in metrics.items()}}
        if contract.thresholds_tuned_on:
            tuned = {name: round(value, 6) for name, value in measure(contract, outputs).items()}
            recorded["val at chosen thresholds"] = {**tuned, "tuned": True}
        return contract, metrics, recorded

    def _validation_loader(self) -> Loader:
        images = self._images(self.data.validation, augmented=False)
        return DataModule(images, images, self.recipe.training).val_dataloader()

    def _validation_outputs(self, network: Network, contract: Contract) -> Outputs:
        """Return the raw outputs of the best weights in full precision on the validation images."""
        backend = TorchBackend(network)
        results = []
        for batch in self._validation_loader():
            feeds = {spec.name: x.numpy() for spec, x in zip(network.inputs, batch["inputs"], strict=True)}
            outputs = backend.run(feeds)
            arrays = [outputs[spec.name] for spec in network.outputs]
            results.append((batch["position"].numpy(), batch["placement"].numpy(), arrays, 0.0))
        return gather(contract, results, self.data.validation)[0]
