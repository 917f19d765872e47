"""A study: trials of one recipe with different values, in a SQLite file that several processes share."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from blemish.config.recipe import Recipe
from blemish.config.tune_schema import TuneConfig
from blemish.errors import BadInput, BadRecipe, BlemishError, MissingExtra, TrainingFailed
from blemish.model_file import lock_file, write_atomically

STUDY_FILE, LOCK_FILE, BEST_RECIPE, TRIALS_FILE = "study.db", "study.lock", "best-recipe.yaml", "trials.csv"
IMPORTANCE_FILE = "importance.svg"
STUDY_NAME = "blemish"
_WAIT_SECONDS = 0.1
_SETUP = "setup"  # user attribute of the study: what all trials share


class Pruned(Exception):
    """The training of a trial was stopped, because those before it were better."""


@dataclass(frozen=True)
class TrialResult:
    """What one training of a trial gave.

    Attributes:
        value: the best value of the metric on validation images.
        epochs: number of epochs that were trained; 0 for a training without epochs.
    """

    value: float
    epochs: int = 0


# Trains a recipe in a folder, calls the function after each epoch with the epoch and the metric, and returns
# the result. The function raises `Pruned`.
Objective = Callable[[Recipe, Path, Callable[[int, float], None]], TrialResult]


@dataclass(frozen=True)
class TuningResult:
    """The outcome of a study.

    Attributes:
        folder: the study's folder.
        recipe: the base recipe with the best values.
        metric: name of the metric.
        value: its best value on validation images.
        base_value: its value with the values of the base recipe; None if those are outside the search space.
        params: the best values by recipe key.
        trials: number of trials by state: complete, pruned, fail.
        importance: share of the differences in the metric that each key explains; empty with few trials.
    """

    folder: Path
    recipe: Recipe
    metric: str
    value: float
    base_value: float | None
    params: Mapping[str, Any]
    trials: Mapping[str, int]
    importance: Mapping[str, float]


def import_optuna() -> Any:
    """Return the package optuna, quiet.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        optuna: Any = import_module("optuna")
    except ImportError as error:
        raise MissingExtra("tune", "blemish tune") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """The trials in one folder; several processes may run them at the same time."""

    def __init__(
        self, folder: Path, recipe: Recipe, *, metric: str, direction: str, few: bool = False
    ) -> None:
        """Create the study, or open the one that is in the folder.

        Args:
            folder: of the study.
            recipe: the base recipe; its section `tune` has the search space.
            metric: name of the metric on validation images.
            direction: "max" or "min".
            few: whether the trials train without PyTorch.

        Raises:
            BadRecipe: the search space is empty, or a key cannot have one of its values.
            BadInput: the study in the folder has another recipe ("bad-input.other-study").
        """
        self.folder, self.recipe, self.metric = folder, recipe, metric
        self.tune: TuneConfig = recipe.tune
        self._optuna = import_optuna()
        self._check_space()
        folder.mkdir(parents=True, exist_ok=True)
        setup = json.loads(json.dumps({"recipe": self._setup_of(recipe), "metric": metric, "few": few}))
        tune = self.tune
        with self._locked():
            storage = self._optuna.storages.RDBStorage(f"sqlite:///{(folder / STUDY_FILE).resolve()}")
            exists = any(s.study_name == STUDY_NAME for s in storage.get_all_studies())
            sampler = self._optuna.samplers.TPESampler(
                seed=None if exists else recipe.training.seed, n_startup_trials=tune.startup_trials
            )
            pruner = (
                self._optuna.pruners.MedianPruner(tune.startup_trials, tune.warmup_epochs)
                if tune.pruner == "median"
                else self._optuna.pruners.NopPruner()
            )
            self._study = self._optuna.create_study(
                storage=storage,
                study_name=STUDY_NAME,
                sampler=sampler,
                pruner=pruner,
                direction="maximize" if direction == "max" else "minimize",
                load_if_exists=True,
            )
            if not exists:
                self._study.set_user_attr(_SETUP, setup)
                base = self._base_values()
                if base is not None:  # measured first, so that the result can be compared with it
                    self._study.enqueue_trial(base, user_attrs={"base": True})
            elif self._study.user_attrs.get(_SETUP) != setup:
                raise BadInput(
                    f"{folder}: the study in this folder has another recipe, data or metric. Continue it with"
                    " the same ones, or choose another folder.",
                    reason="other-study",
                )

    @staticmethod
    def _setup_of(recipe: Recipe) -> dict[str, Any]:
        values = recipe.model_dump(mode="json")
        values["tune"] = {"space": values["tune"]["space"]}  # more trials may be added later
        return values

    def _check_space(self) -> None:
        if not self.tune.space:
            raise BadRecipe(
                "the recipe has no search space. Add tune.space, such as training.optimizer.learning_rate:"
                " {low: 0.0001, high: 0.1, log: true}",
                reason="no-search-space",
            )
        for key, values in self.tune.space.items():
            for value in values.choices if values.choices is not None else (values.low, values.high):
                self.recipe.changed({key: value})

    def _base_values(self) -> dict[str, Any] | None:
        """Return the values of the base recipe, or None if one is outside the search space."""
        found = {}
        for key, values in self.tune.space.items():
            value: Any = self.recipe.model_dump(mode="json")
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if not values.contains(value):
                return None
            found[key] = value
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from starting a trial."""
        with (self.folder / LOCK_FILE).open("ab") as file:
            while not lock_file(file):
                time.sleep(_WAIT_SECONDS)
            yield

    def run(self, objective: Objective, on_trial: Callable[[str], None] = lambda line: None) -> None:
        """Train trials until the study has as many as the recipe asks for.

        A trial whose process was killed is repeated with the same values. A trial whose training fails is
        recorded and does not end the study, except if none has succeeded.

        Args:
            objective: trains one recipe.
            on_trial: called with one line after each trial.

        Raises:
            BlemishError: the first trial failed.
        """
        while (started := self._start()) is not None:
            trial, lock = started
            state, value, error = self._optuna.trial.TrialState, None, None
            try:
                result = objective(
                    self._recipe_of(trial.params), self._folder_of(trial), self._reporter(trial)
                )
                outcome, value = state.COMPLETE, result.value
                trial.set_user_attr("epochs", result.epochs)
            except Pruned:
                outcome = state.PRUNED
            except KeyboardInterrupt:
                lock.close()
                raise
            except BlemishError as failure:
                outcome, error = state.FAIL, failure
                trial.set_user_attr("error", str(failure))
            with self._locked():
                self._study.tell(trial.number, value, state=outcome)
                lock.close()
                self._remove_files()
            shown = f"{value:.4f}" if value is not None else outcome.name.lower()
            described = ", ".join(f"{k}={v}" for k, v in trial.params.items())
            on_trial(f"trial {trial.number}: {self.metric} {shown}   {described}")
            if error is not None and not self._finished():
                raise error

    def _start(self) -> tuple[Any, IO[bytes]] | None:
        """Return the next trial and its lock, or None if there are enough."""
        state = self._optuna.trial.TrialState
        with self._locked():
            self._repeat_killed()
            counted = (state.COMPLETE, state.PRUNED, state.RUNNING)
            if len(self._study.get_trials(deepcopy=False, states=counted)) >= self.tune.trials:
                return None
            trial = self._study.ask()
            for key, values in self.tune.space.items():
                _suggest(trial, key, values)
            folder = self._folder_of(trial)
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("ab")
            lock_file(lock)
            return trial, lock

    def _repeat_killed(self) -> None:
        """Fail the running trials whose process has ended, and enqueue their values again."""
        state = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            path = self._folder_of(trial) / "lock"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                if not lock_file(file):
                    continue
            self._study.tell(trial.number, state=state.FAIL)
            shutil.rmtree(path.parent, ignore_errors=True)
            if trial.params:
                attrs = {"base": True} if trial.user_attrs.get("base") else {}
                self._study.enqueue_trial(trial.params, user_attrs=attrs)

    def _reporter(self, trial: Any) -> Callable[[int, float], None]:
        def report(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                raise Pruned

        return report

    def _folder_of(self, trial: Any) -> Path:
        return self.folder / "trials" / f"{trial.number:04d}"

    def _recipe_of(self, params: Mapping[str, Any]) -> Recipe:
        values = self.recipe.changed(params).model_dump(mode="json", exclude_unset=True)
        values.pop("tune", None)
        return Recipe.of(values)

    def _finished(self) -> list[Any]:
        state = self._optuna.trial.TrialState
        return list(self._study.get_trials(deepcopy=False, states=(state.COMPLETE,)))

    def _remove_files(self) -> None:
        """Remove models and checkpoints of every finished trial except the best."""
        finished = self._finished()
        best = self._study.best_trial.number if finished else -1
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(
            deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.FAIL)
        ):
            folder = self._folder_of(trial)
            if trial.number == best or not folder.is_dir():
                continue
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            for file in (*folder.glob("*.onnx"), *folder.glob("*.safetensors")):
                file.unlink(missing_ok=True)

    def finish(self) -> TuningResult:
        """Write the best recipe, the table of trials and the importance of the keys, and return the outcome.

        Raises:
            TrainingFailed: no trial was completed ("training-failed.no-trial").
        """
        finished = self._finished()
        if not finished:
            raise TrainingFailed(
                f"{self.folder}: no trial was completed. Start it again with more trials", reason="no-trial"
            )
        best = self._study.best_trial
        recipe = self._recipe_of(best.params)
        base = next((t.value for t in finished if t.user_attrs.get("base")), None)
        write_atomically(self.folder / BEST_RECIPE, recipe.to_yaml().encode())
        self._write_trials()
        importance = self._importance()
        counts: dict[str, int] = {}
        for trial in self._study.get_trials(deepcopy=False):
            counts[trial.state.name.lower()] = counts.get(trial.state.name.lower(), 0) + 1
        counts.pop("waiting", None)
        return TuningResult(
            self.folder, recipe, self.metric, float(best.value), base, best.params, counts, importance
        )

    def _write_trials(self) -> None:
        with (self.folder / TRIALS_FILE).open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["trial", "state", self.metric, "epochs", "seconds", *self.tune.space])
            for trial in self._study.get_trials(deepcopy=False):
                seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.1f}"
                value = "" if trial.value is None else repr(float(trial.value))
                row = [
                    trial.number,
                    trial.state.name.lower(),
                    value,
                    trial.user_attrs.get("epochs", ""),
                    seconds,
                ]
                lines.writerow([*row, *(trial.params.get(key, "") for key in self.tune.space)])

    def _importance(self) -> dict[str, float]:
        """Return the importance of each key, most important first, and draw it; nothing for few trials.

        Source:
            PED-ANOVA: Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter
            Importance in Arbitrary Subspaces", as Optuna computes it.
        """
        if len({tuple(trial.params.items()) for trial in self._study.trials if trial.value is not None}) < 2:
            return {}
        evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()
        try:
            found = self._optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        except (RuntimeError, ValueError):  # too few completed trials, or all of one value
            return {}
        from blemish.evaluation.charts import bars

        shares = {key: float(value) for key, value in found.items()}
        chart = str(bars(list(shares.items()), f"importance for {self.metric}"))
        opening = (
            '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" fill="#246" '
        )
        write_atomically(self.folder / IMPORTANCE_FILE, chart.replace("<svg ", opening, 1).encode())
        return shares


def _suggest(trial: Any, key: str, values: Any) -> Any:
    if values.choices is not None:
        return trial.suggest_categorical(key, list(values.choices))
    if values.is_whole:
        return trial.suggest_int(key, values.low, values.high, log=values.log, step=values.step or 1)
    step = None if values.step is None else float(values.step)
    return trial.suggest_float(key, float(values.low), float(values.high), log=values.log, step=step)
