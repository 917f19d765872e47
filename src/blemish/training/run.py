"""From a recipe to a run: the one function that trains, and what it leaves behind."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from blemish.errors import BadInput, StorageFull
from blemish.export import export_trained
from blemish.modelfile import Contract, ModelFile, write_atomically
from blemish.models.backend import TorchBackend
from blemish.models.contract import Network
from blemish.models.weights import locate
from blemish.training.checkpoint import Checkpoints, leftovers
from blemish.training.detection import DetectionModule, DetectionPhotographs, judged_detector
from blemish.training.detection_changes import check_changes
from blemish.training.fitting import build_trainer, check_device, choose_device, quiet
from blemish.training.loading import Loaders, worker_count
from blemish.training.losses import ImageLoss, label_weights, sampling_weights
from blemish.training.module import TrainingModule, gather
from blemish.training.optimization import freeze
from blemish.training.photographs import PhotographSource, TrainingPhotographs
from blemish.training.preparing import (
    Data,
    build_network,
    draft_contract,
    prepare_data,
    resolve,
    write_split,
)
from blemish.training.recipe import Recipe, read_recipe
from blemish.training.targets import target_of
from blemish.training.validation import HEADLINE, measure, tuned
from blemish.training.watching import Interruption, ProgressBar, RunFiles, Stopped

__all__ = ["Run", "Stopped", "train"]

_log = logging.getLogger("blemish.training")


@dataclass(frozen=True)
class Run:
    """What a training left behind.

    Attributes:
        path: the folder.
        metrics: on the validation photographs, of the best epoch's weights; multilabel verdicts at .5.
        model_file: the model file, proved to decide as the network does.
        best_epoch: counted from 1.
        history: one row of figures an epoch.
    """

    path: Path
    metrics: dict[str, float]
    model_file: Path
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    recipe: Recipe | Path | str | None = None,
    *,
    data: Path | str | None = None,
    model: str | None = None,
    epochs: int | None = None,
    weights: Path | str | None = None,
    output: Path | str | None = None,
    device: str = "auto",
    set: Sequence[str] | Mapping[str, Any] = (),  # noqa: A002  (the option's name)
    resume: Path | str | None = None,
    progress: bool = False,
) -> Run:
    """Train a model, and write its model file.

    Args:
        recipe: a recipe, the path of one, or None for the defaults.
        data: in place of the recipe's.
        model: likewise.
        epochs: likewise.
        weights: `default`, `none` or a file; likewise.
        output: the run's folder; None for `runs/NAME`.
        device: `auto`, `cpu`, `cuda:N` or `mps`.
        set: further recipe keys: `["training.batch_size=16"]` or a mapping.
        resume: the folder of a run to go on with; its own recipe is used.
        progress: whether to show a bar on standard error.

    Raises:
        BadRecipe: a key or value that is not possible.
        BadDataset: the data cannot be used.
        NoNetwork: weights must be downloaded and cannot be.
        TrainingFailed: it cannot go on; the last good checkpoint is intact.
        ExportRefused: the file does not decide as the network does.
    """
    if resume is not None:
        folder = Path(resume)
        if not (folder / "recipe.yaml").is_file():
            raise BadInput(f"{folder}: this is no run to resume, because it holds no recipe.yaml")
        chosen = read_recipe(folder / "recipe.yaml", overrides={"data.path": _text(data)})
    else:
        chosen = _recipe(recipe, data=data, model=model, epochs=epochs, weights=weights, set=set)
        folder = _new_folder(output, chosen)
    where = choose_device(device)
    check_device(chosen, where)
    files = locate(chosen.model.name, chosen.model.weights, chosen.model.options.get("backbone"))
    prepared = prepare_data(chosen, folder / "split.csv" if resume is not None else None)
    chosen = resolve(chosen, prepared)
    with _log_file(folder):
        network = build_network(chosen, prepared, files)
        return _Training(chosen, prepared, network, folder, where, progress=progress).run()


@dataclass
class _Training:
    """One training under way; the parts of `train` that share what was prepared."""

    recipe: Recipe
    data: Data
    network: Network
    folder: Path
    device: torch.device
    progress: bool = False

    def run(self) -> Run:
        check_changes(self.recipe.augmentation, detector=self.network.owns_loss)
        still = freeze(
            self.network,
            self.recipe.model.trainable,
            batch_norm_frozen=self.recipe.training.batch_norm == "frozen",
        )
        write_atomically(self.folder / "recipe.yaml", self.recipe.to_yaml().encode())
        write_split(self.data.dataset, self.folder / "split.csv")
        contract = draft_contract(self.recipe, self.network, self.data)
        checkpoints = Checkpoints(self.folder / "checkpoints")
        for path in leftovers(checkpoints.folder):
            path.unlink(missing_ok=True)
        state = checkpoints.newest()
        if state is None or not self._is_over(state):
            self._fit(contract, still, state)
            state = checkpoints.newest()
        assert state is not None  # noqa: S101  (an epoch was complete)
        self.network.load_state_dict(checkpoints.best_weights(state["best_epoch"] or state["epoch"]))
        return self._finish(contract, state)

    def _is_over(self, state: Mapping[str, Any]) -> bool:
        part = self.recipe.training
        return state["epoch"] >= part.epochs or (
            part.patience is not None and state["waiting"] >= part.patience
        )

    def _fit(self, contract: Contract, still: Sequence[str], state: dict[str, Any] | None) -> None:
        part = self.recipe.training
        first_epoch = 0 if state is None else int(state["epoch"])
        loaders = Loaders(
            self._photographs(self.data.train, augmented=True),
            self._photographs(self.data.validation, augmented=False),
            part,
            weights=sampling_weights(self.data.train, self.network.label_count)
            if part.balanced_sampling
            else None,
            first_epoch=first_epoch,
            workers=worker_count(part, on_cpu=self.device.type == "cpu"),
            pinned=self.device.type == "cuda",
        )
        monitor = self._monitor()
        callbacks: list[pl.Callback] = [
            RunFiles(self.folder, part.patience),
            ProgressBar(part.epochs, monitor, quiet=not self.progress),
            Interruption(self.folder),
        ]
        batches = self._batches_per_epoch()
        learning = DetectionModule if self.network.owns_loss else TrainingModule
        module = learning(
            self.network,
            self.recipe,
            contract,
            self._loss(),
            steps_per_epoch=-(-batches // part.accumulate),
            validation_samples=self.data.validation,
            monitor=monitor,
            still=still,
            state=state,
        )
        with quiet():
            trainer = build_trainer(
                self.recipe, self.device, self.folder, callbacks, epochs=part.epochs - first_epoch
            )
            trainer.fit(module, datamodule=loaders)

    def _photographs(self, samples: Sequence[Any], *, augmented: bool) -> TrainingPhotographs:
        how: dict[str, Any] = {
            "augmentation": self.recipe.augmentation if augmented else None,
            "seed": self.recipe.training.seed,
            "source": self._source(),
        }
        if self.network.owns_loss:
            return DetectionPhotographs(samples, self.network, **how)
        return TrainingPhotographs(samples, self.network.inputs, target_of(self.network), **how)

    def _source(self) -> PhotographSource | None:
        return None

    def _loss(self) -> ImageLoss:
        task, part = self.network.task, self.recipe.training.loss
        weights = None
        if part.class_weights == "balanced" and task.is_image_level:
            weights = label_weights(self.data.train, task, self.network.label_count)
        return ImageLoss(task, part, weights)

    def _monitor(self) -> str:
        return self.recipe.training.monitor or HEADLINE.get(self.network.task, "val_loss")

    def _batches_per_epoch(self) -> int:
        from blemish.training.photographs import EpochBatches

        part = self.recipe.training
        assert isinstance(part.batch_size, int)  # noqa: S101
        return len(EpochBatches(len(self.data.train), part.batch_size, world=part.devices * part.nodes))

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
            return judged_detector(network, contract, self._validation(), self.data.validation)
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
        photographs = self._photographs(self.data.validation, augmented=False)
        return Loaders(photographs, photographs, self.recipe.training).val_dataloader()

    def _outputs(self, network: Network, contract: Contract) -> Any:
        """The raw outputs of the best weights in full precision, on the validation photographs."""
        backend = TorchBackend(network)
        seen = []
        for batch in self._validation():
            feeds = {spec.name: x.numpy() for spec, x in zip(network.inputs, batch["inputs"], strict=True)}
            answers = backend.run(feeds)
            arrays = [answers[spec.name] for spec in network.outputs]
            seen.append((batch["position"].numpy(), batch["placement"].numpy(), arrays, 0.0))
        return gather(contract, seen, self.data.validation)[0]


def _recipe(recipe: Recipe | Path | str | None, *, set: Any, **given: Any) -> Recipe:  # noqa: A002
    keys = {
        "data": "data.path",
        "model": "model.name",
        "epochs": "training.epochs",
        "weights": "model.weights",
    }
    overrides = {keys[name]: _text(value) for name, value in given.items() if value is not None}
    settings = list(set) if not isinstance(set, Mapping) else []
    if isinstance(set, Mapping):
        overrides |= set
    if isinstance(recipe, Recipe):
        values = recipe.changed(overrides)
        if settings:
            import yaml

            values = values.changed(
                {s.partition("=")[0]: yaml.safe_load(s.partition("=")[2]) for s in settings}
            )
        return values
    return read_recipe(recipe, settings=settings, overrides=overrides)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _new_folder(output: Path | str | None, recipe: Recipe) -> Path:
    if output is not None:
        folder = Path(output)
        if (folder / "recipe.yaml").exists():
            raise BadInput(
                f"{folder}: a run stands there already; choose another folder, or go on with it: "
                f"--resume {folder}"
            )
    else:
        name = recipe.name or recipe.model.name.replace("/", "-")
        folder = Path("runs") / name
        number = 2
        while folder.exists():
            folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


class _log_file:  # noqa: N801  (used as a function)
    """While inside, what the training says also goes to `train.log`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.handler = logging.FileHandler(self.folder / "train.log", encoding="utf-8")
        except OSError as error:
            raise StorageFull(
                f"{self.folder} cannot be written ({error.strerror}); choose another folder"
            ) from error
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.before = _log.level
        _log.setLevel(logging.INFO)
        _log.addHandler(self.handler)

    def __exit__(self, *_: object) -> None:
        _log.removeHandler(self.handler)
        _log.setLevel(self.before)
        self.handler.close()
