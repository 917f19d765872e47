"""The metrics of a contract as users read them: the task's summary metrics first, without repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blemish.model_file.contract import Contract

WITH_INTERVALS = "val with intervals"


@dataclass(frozen=True)
class MetricLine:
    """One metric.

    Attributes:
        name: registered name of the metric.
        value: its value.
        low: lower end of its 95 % confidence interval; None if none was computed.
        high: upper end.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MetricSummary:
    """The metrics of one split.

    Attributes:
        split: its key in the contract.
        tuned: whether thresholds were chosen on the same images.
        images: number of images; None if the contract does not state it.
        metrics: the summary metrics of the task first.
    """

    split: str
    tuned: bool
    images: int | None
    metrics: tuple[MetricLine, ...]


def summarize_metrics(contract: Contract, max_metrics: int) -> Iterator[MetricSummary]:
    """Yield the metrics of each split; splits whose values are repeated with intervals are left out.

    Args:
        contract: of the model file.
        max_metrics: per split.
    """
    by_split = {split: values for split, values in contract.metrics.items() if isinstance(values, Mapping)}
    repeated = set()
    if WITH_INTERVALS in by_split:
        # Without tuning, "val" has the same values; with tuning, those before thresholds were chosen.
        repeated = {"val at chosen thresholds"}
        if not by_split[WITH_INTERVALS].get("tuned"):
            repeated.add("val")
    rank = {name: place for place, name in enumerate(contract.task.fields.summary_metrics)}
    for split, values in by_split.items():
        if split in repeated:
            continue
        metrics = [m for name, value in values.items() if (m := _metric_line(name, value)) is not None]
        metrics.sort(
            key=lambda metric: rank.get(metric.name, len(rank))
        )  # stable: the others keep their order
        yield MetricSummary(
            split, bool(values.get("tuned")), values.get("images"), tuple(metrics[:max_metrics])
        )


def _metric_line(name: str, value: Any) -> MetricLine | None:
    if isinstance(value, Mapping):
        if value.get("value") is None:
            return None
        return MetricLine(name, value["value"], value.get("low"), value.get("high"))
    return MetricLine(name, value) if isinstance(value, float) else None


def describe_split_counts(contract: Contract) -> str:
    """Return the number of images of each split as text.

    Example:
        >>> from types import SimpleNamespace
        >>> describe_split_counts(SimpleNamespace(data={"counts": {"test": 2, "train": 7}}))
        '7 train, 2 test'
    """
    counts = contract.data.get("counts", {})
    order = ("train", "val", "test")
    splits = sorted(counts, key=lambda split: order.index(split) if split in order else len(order))
    return ", ".join(f"{counts[split]} {split}" for split in splits)
