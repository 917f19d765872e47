"""The figures of a contract that people are shown: the telling ones first, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blemish.model_file.contract import Contract

WITH_INTERVALS = "val with intervals"


@dataclass(frozen=True)
class MetricLine:
    """One figure, with its 95 % interval where one was computed."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MetricSummary:
    """What was measured on one split.

    Attributes:
        split: as the contract names it.
        tuned: whether thresholds were chosen on these very images.
        images: how many; None where the contract does not say.
        figures: the telling ones first.
    """

    split: str
    tuned: bool
    images: int | None
    figures: tuple[MetricLine, ...]


def measured(contract: Contract, most: int) -> Iterator[MetricSummary]:
    """What to show of each split, at most `most` figures; what intervals repeat is left out."""
    metrics = {split: found for split, found in contract.metrics.items() if isinstance(found, Mapping)}
    repeated = set()
    if WITH_INTERVALS in metrics:
        # Untuned, the plain figures are the same; tuned, they are those before thresholds were chosen.
        repeated = {"val at chosen thresholds"} | (set() if metrics[WITH_INTERVALS].get("tuned") else {"val"})
    first = {name: place for place, name in enumerate(contract.task.fields.summary_metrics)}
    for split, found in metrics.items():
        if split in repeated:
            continue
        figures = [f for name, value in found.items() if (f := _figure(name, value)) is not None]
        figures.sort(
            key=lambda figure: first.get(figure.name, len(first))
        )  # stable: the others in their order
        yield MetricSummary(split, bool(found.get("tuned")), found.get("images"), tuple(figures[:most]))


def _figure(name: str, value: Any) -> MetricLine | None:
    if isinstance(value, Mapping):
        if value.get("value") is None:
            return None
        return MetricLine(name, value["value"], value.get("low"), value.get("high"))
    return MetricLine(name, value) if isinstance(value, float) else None


def counts_of(contract: Contract) -> str:
    """How many images each split has, in the order of their use.

    Example:
        >>> from types import SimpleNamespace
        >>> counts_of(SimpleNamespace(data={"counts": {"test": 2, "train": 7}}))
        '7 train, 2 test'
    """
    counts = contract.data.get("counts", {})
    order = ("train", "val", "test")
    known = sorted(counts, key=lambda split: order.index(split) if split in order else len(order))
    return ", ".join(f"{counts[split]} {split}" for split in known)
