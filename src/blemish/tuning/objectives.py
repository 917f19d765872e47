"""What a trial trains: a recipe with PyTorch, or a linear classifier on frozen features without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.config.recipe import RECIPE_NAME, Recipe
from blemish.errors import BadRecipe
from blemish.model_file import write_atomically
from blemish.structures import Task
from blemish.tuning.study import Objective, Pruned, TrialResult

if TYPE_CHECKING:
    from blemish.structures import Dataset

Report = Callable[[int, float], None]
FEW_KEYS = ("model.name", "model.input_size", "data.white_level", "data.decode")
_OTHER_FEW_KEYS = (
    "name",
    "task",
    "data.path",
    "data.format",
    "data.images",
    "training.seed",
    "training.monitor",
)


def few_objective(dataset: Dataset, metric: str, *, threads: int | None = None) -> Objective:
    """Return the objective that trains as `blemish train --few` does.

    Args:
        dataset: of labels of images; its training images train, its validation images give the metric.
        metric: name of the metric.
        threads: of ONNX Runtime; default: every available core.
    """
    from blemish.few_shot.few_shot_trainer import DEFAULT_INPUT_SIZE, train_few

    def objective(recipe: Recipe, folder: Path, report: Report) -> TrialResult:
        run = train_few(
            dataset,
            output=folder,
            model=recipe.model.name,
            input_size=size if isinstance(size := recipe.model.input_size, int) else DEFAULT_INPUT_SIZE,
            white_level=recipe.data.white_level,
            decode=recipe.data.decode,
            seed=recipe.training.seed,
            threads=threads,
            choose_explanation=False,
        )
        write_atomically(folder / RECIPE_NAME, recipe.to_yaml().encode())
        return TrialResult(run.metrics[metric])

    return objective


def check_few_space(recipe: Recipe) -> None:
    """Refuse keys of a recipe and of its search space that training without PyTorch does not have.

    Raises:
        BadRecipe: such a key ("bad-recipe.key-with-few").
    """
    set_keys = recipe.model_dump(mode="json", exclude_unset=True)
    set_keys.pop("tune", None)
    known = (*FEW_KEYS, *_OTHER_FEW_KEYS)
    wrong = [key for key in _flat_keys(set_keys) if key not in known]
    wrong += [f"tune.space: {key}" for key in recipe.tune.space if key not in FEW_KEYS]
    size = recipe.model.input_size
    if size is not None and not isinstance(size, int):
        wrong.append("model.input_size with two sides")
    if wrong:
        raise BadRecipe(
            f"{wrong[0]} has no meaning with --few. Search {', '.join(FEW_KEYS)}, or remove --few",
            reason="key-with-few",
        )


def _flat_keys(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the dotted key of every value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat_keys(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def training_objective(metric: str, direction: str, *, device: str = "auto") -> Objective:
    """Return the objective that trains a recipe with PyTorch, and reports the metric after each epoch.

    Args:
        metric: name of the metric.
        direction: "max" or "min".
        device: see `blemish.train`.
    """
    from blemish.training import run
    from blemish.training.callback_registry import Callback

    better = max if direction == "max" else min

    class Reporter(Callback):
        """Reports each epoch to the study, and remembers whether it stops the trial."""

        def __init__(self, report: Report) -> None:
            self.report, self.values, self.pruned = report, [], False  # type: ignore[var-annotated]

        def on_epoch_end(self, metrics: Any) -> None:
            value = float(metrics[metric])
            if math.isnan(value):
                return
            self.values.append(value)
            try:
                self.report(int(metrics["epoch"]), value)
            except Pruned:
                self.pruned = True
                raise

    def objective(recipe: Recipe, folder: Path, report: Report) -> TrialResult:
        reporter = Reporter(report)
        try:
            run.train(recipe, output=folder, device=device, callbacks=[reporter])
        except Exception:
            if reporter.pruned:
                raise Pruned from None
            raise
        if not reporter.values:
            raise BadRecipe(
                f"the metric {metric} was never a number. Choose another training.monitor", reason="monitor"
            )
        return TrialResult(better(reporter.values), len(reporter.values))

    return objective


def metric_of(recipe: Recipe, task: Task) -> str:
    """Return the metric that selects the best epoch of a recipe, and here the best trial."""
    return recipe.training.monitor or task.primary_metric
