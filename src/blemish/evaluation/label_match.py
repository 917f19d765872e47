"""Matching of a data set's labels with a model's labels: by name, never by index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from blemish.errors import BadInput, UnknownName, suggestion
from blemish.structures import GroundTruth, Labels


@dataclass(frozen=True)
class LabelMatch:
    """The model's index of each label of a data set.

    Attributes:
        model: the model's labels.
        index: for each label of the data set, its index in the model; None if it is left out.
        absent: the model's labels that the data set does not have, in the model's order.
    """

    model: Labels
    index: tuple[int | None, ...]
    absent: tuple[str, ...]

    @property
    def known(self) -> tuple[int, ...]:
        """The indices of the model's labels that the data set has, ascending."""
        return tuple(sorted({i for i in self.index if i is not None}))

    def apply(self, ground_truth: GroundTruth) -> GroundTruth | None:
        """Return a ground truth in the model's labels, or None if its only label is left out.

        Objects of a label that is left out are dropped.
        """
        if not ground_truth.labels.names:  # localization data without labels: the one object has index 0
            return replace(ground_truth, labels=self.model)
        if ground_truth.labels.names == self.model.names and self.index == tuple(range(len(self.model))):
            return ground_truth
        indices = [self.index[i] for i in ground_truth.label_index]
        kept = np.array([i is not None for i in indices], bool)
        if ground_truth.task.has_one_label and not kept.all():
            return None
        index = np.array([i for i in indices if i is not None], np.int64)
        if ground_truth.task.has_label_set:
            none = np.zeros(0, bool)
            return replace(
                ground_truth,
                labels=self.model,
                label_index=np.unique(index),
                crowd=none,
                difficult=none,
                truncated=none,
                areas=np.zeros(0),
            )
        from blemish.data.clean import select_objects

        return replace(select_objects(ground_truth, kept), labels=self.model, label_index=index)


def match_labels(model: Labels, data: Labels, mapping: Mapping[str, str] | None = None) -> LabelMatch:
    """Find the model's index of each label of a data set.

    Args:
        model: the model's labels.
        data: the data set's labels.
        mapping: the data set's names to the model's names, for labels whose names differ; the opposite
            direction is accepted too. An empty model name leaves the label out.

    Raises:
        BadInput: the model does not have a label of the data set, and the mapping does not mention it.
        UnknownName: neither the data set nor the model has a name of the mapping.

    Example:
        >>> match_labels(Labels(("dent", "Kratzer")), Labels(("scratch",)), {"scratch": "Kratzer"}).index
        (1,)
    """
    renamed = dict(_data_first(pair, model, data) for pair in (mapping or {}).items())
    index: list[int | None] = []
    for name in data.names:
        target = renamed.get(name, name)
        if target and target not in model:
            raise BadInput(
                f"the model does not have the data set's label {target!r}{suggestion(target, model.names)}. "
                f"Map it with --label-map {name}=LABEL, or leave it out with --label-map {name}=",
                reason="label-not-in-model",
            )
        index.append(model.index(target) if target else None)
    mapped = {i for i in index if i is not None}
    absent = tuple(n for i, n in enumerate(model.names) if i not in mapped) if data.names else ()
    return LabelMatch(model, tuple(index), absent)


def _data_first(pair: tuple[str, str], model: Labels, data: Labels) -> tuple[str, str]:
    """Return a pair of the mapping with the data set's name first."""
    name, target = pair
    if name not in data and name in model and target in data:
        name, target = target, name
    if name not in data:
        raise UnknownName("label", name, data.names, where="the data set")
    if target and target not in model:
        raise UnknownName("label", target, model.names, where="the model")
    return name, target
