"""`compare_runs`: the validation metrics of trainings beside each other, and the settings that differ."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.config.recipe import MODEL_NAME, RECIPE_NAME, read_run_recipe
from blemish.errors import BadInput
from blemish.evaluation.metric_names import format_value, metric_display_name
from blemish.hub.mlflow_runs import RUN_SCHEME, read_mlflow_run
from blemish.hub.settings import flatten
from blemish.metrics.metric_table import METRICS, metric_direction
from blemish.model_file import read_model_file

METRICS_TABLE = "metrics.csv"  # in a run's folder
_PASSED_OVER = ("name", "schema_version", "tune")  # of the settings: names are the heads of columns


@dataclass(frozen=True)
class ComparedRun:
    """One training.

    Attributes:
        name: its folder, or the name of the tracker's run.
        metrics: of the exported epoch on the validation images, or of the best one so far.
        epoch: that epoch, from 1; None for trainings without epochs.
        settings: the recipe by dotted key.
    """

    name: str
    metrics: Mapping[str, float]
    epoch: int | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class RunComparison:
    """Several trainings.

    Attributes:
        runs: in the order in which they were named.
    """

    runs: tuple[ComparedRun, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that any run has, in the order of the first one that has them."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.metrics))

    @property
    def differences(self) -> dict[str, tuple[str, ...]]:
        """The settings that differ: the value of each run as text, "" where a run has no such key."""
        keys = dict.fromkeys(key for run in self.runs for key in run.settings)
        out = {}
        for key in keys:
            if key.partition(".")[0] in _PASSED_OVER:
                continue
            values = tuple(_text(run.settings[key]) if key in run.settings else "" for run in self.runs)
            if len(set(values)) > 1:
                out[key] = values
        return out

    def best(self, metric: str) -> float | None:
        """Return the best value of a metric; None if no run has it or its direction is unknown."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        values = [value for value in values if not math.isnan(value)]
        if not values or (metric not in METRICS and metric not in ("train_loss", "val_loss")):
            return None
        return max(values) if metric_direction(metric) == "max" else min(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values for JSON; an undefined metric is null."""
        runs = [
            {
                "name": run.name,
                "epoch": run.epoch,
                "metrics": {k: None if math.isnan(v) else v for k, v in run.metrics.items()},
            }
            for run in self.runs
        ]
        return {"runs": runs, "differences": {key: list(row) for key, row in self.differences.items()}}

    def to_rows(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the name and the cells of each row of a table: epoch, metrics, then settings that differ."""
        yield "epoch", tuple("" if run.epoch is None else str(run.epoch) for run in self.runs)
        for name in self.metrics:
            best = self.best(name) if len(self.runs) > 1 else None
            cells = []
            for run in self.runs:
                value = run.metrics.get(name)
                mark = " *" if value is not None and value == best else ""
                cells.append("" if value is None else format_value(value, name) + mark)
            yield metric_display_name(name), tuple(cells)
        yield from self.differences.items()


def compare_runs(runs: Sequence[Path | str]) -> RunComparison:
    """Return the metrics and the settings of trainings.

    Args:
        runs: folders of runs, or `runs:/ID` for runs of MLflow at `MLFLOW_TRACKING_URI`.

    Raises:
        BadInput: no run; a path that is not a run, or a run without an epoch ("bad-input.not-a-run");
            a damaged table of epochs ("bad-input.metrics-table"); or MLflow has no such run.
        MissingExtra: MLflow is not installed.
        NoNetwork: MLflow's server cannot be reached, or refuses.
    """
    if not runs:
        raise BadInput("expected at least one run to compare, got none", reason="no-model")
    return RunComparison(tuple(_read(run) for run in runs))


def _read(run: Path | str) -> ComparedRun:
    if str(run).startswith(RUN_SCHEME):
        return ComparedRun(*read_mlflow_run(str(run)))
    folder = Path(run)
    if not folder.is_dir():
        raise BadInput(
            f"{run}: expected the folder of a run. Give --data to compare model files on images",
            reason="not-a-run",
        )
    if (folder / MODEL_NAME).is_file():
        contract = read_model_file(folder / MODEL_NAME).contract
        values = contract.metrics.get("val", {})
        metrics = {k: float(v) for k, v in values.items() if type(v) in (int, float)}
        epoch = contract.training.get("best_epoch")
        return ComparedRun(_name(folder), metrics, epoch, dict(flatten(contract.recipe)))
    if not (folder / RECIPE_NAME).is_file() or not (folder / METRICS_TABLE).is_file():
        raise BadInput(
            f"{folder}: not a run with a finished epoch: expected {MODEL_NAME}, or {RECIPE_NAME} and "
            f"{METRICS_TABLE}",
            reason="not-a-run",
        )
    recipe = read_run_recipe(folder)
    rows = _read_epochs(folder / METRICS_TABLE)
    monitor = recipe.training.monitor or (recipe.task.primary_metric if recipe.task else "val_loss")
    sign = 1 if metric_direction(monitor) == "max" else -1
    known = [row for row in rows if not math.isnan(row.get(monitor, math.nan))]
    best = max(known, key=lambda row: sign * row[monitor]) if known else rows[-1]
    settings = dict(flatten(recipe.model_dump(mode="json")))
    epoch = int(best.pop("epoch"))
    return ComparedRun(_name(folder), best, epoch, settings)


def _read_epochs(table: Path) -> list[dict[str, float]]:
    rows = []
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            try:
                rows.append({name: float(value or "nan") for name, value in row.items()})
                int(rows[-1]["epoch"])
            except (ValueError, TypeError, KeyError) as error:
                raise BadInput(
                    f"{table}, line {reader.line_num}: expected one number for each column and an epoch; "
                    "continue the training with --resume, or leave this run out",
                    reason="metrics-table",
                ) from error
    if not rows:
        raise BadInput(
            f"{table.parent}: not a run with a finished epoch: {table.name} has no row", reason="not-a-run"
        )
    return rows


def _name(folder: Path) -> str:
    return folder.resolve().name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
