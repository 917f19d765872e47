"""Labels of the data and labels of the model, brought together by name and never by index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from blemish.errors import BadInput, UnknownName, suggestion
from blemish.structures import GroundTruth, Labels


@dataclass(frozen=True)
class LabelMatch:
    """Where each label of the data stands in the model.

    Attributes:
        model: the model's labels.
        place: for each label of the data, its index in the model; None where it is left out.
        absent: labels of the model that the data do not know, in the model's order.
    """

    model: Labels
    place: tuple[int | None, ...]
    absent: tuple[str, ...]

    @property
    def known(self) -> tuple[int, ...]:
        """Indices of the model's labels that the data know, ascending."""
        return tuple(sorted({i for i in self.place if i is not None}))

    def apply(self, ground_truth: GroundTruth) -> GroundTruth | None:
        """`ground_truth` in the model's labels; None where its only label is left out.

        Objects of a label that is left out are dropped, and so is an image whose one label it is.
        """
        if not ground_truth.labels.names:  # localization of sets without labels: the one object has index 0
            return replace(ground_truth, labels=self.model)
        if ground_truth.labels.names == self.model.names and self.place == tuple(range(len(self.model))):
            return ground_truth
        places = [self.place[i] for i in ground_truth.label_index]
        kept = np.array([p is not None for p in places], bool)
        if ground_truth.task.has_one_label and not kept.all():
            return None
        index = np.array([p for p in places if p is not None], np.int64)
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
    """Where each label of the data stands in the model.

    Args:
        model: the model's labels.
        data: the data's.
        mapping: for labels that bear another name in the model, data's name to model's name (the other
            way round is understood too); an empty name leaves the label out.

    Raises:
        UnknownName: a label of the data that the model does not know and that is not mapped, or a name in
            the mapping that neither knows.

    Example:
        >>> match_labels(Labels(("dent", "Kratzer")), Labels(("scratch",)), {"scratch": "Kratzer"}).place
        (1,)
    """
    renamed = dict(_data_first(pair, model, data) for pair in (mapping or {}).items())
    place: list[int | None] = []
    for name in data.names:
        target = renamed.get(name, name)
        if target and target not in model:
            raise BadInput(
                f"the model does not know the data's label {target!r}{suggestion(target, model.names)}: "
                f"say which label it is with --label-map {name}=LABEL, or leave it out with --label-map {name}="
            )
        place.append(model.index(target) if target else None)
    held = {p for p in place if p is not None}
    absent = tuple(n for i, n in enumerate(model.names) if i not in held) if data.names else ()
    return LabelMatch(model, tuple(place), absent)


def _data_first(pair: tuple[str, str], model: Labels, data: Labels) -> tuple[str, str]:
    """A pair of the mapping with the data's name first, whichever way round it was given."""
    name, target = pair
    if name not in data and name in model and target in data:
        name, target = target, name
    if name not in data:
        raise UnknownName("label", name, data.names, where="the data")
    if target and target not in model:
        raise UnknownName("label", target, model.names, where="the model")
    return name, target
