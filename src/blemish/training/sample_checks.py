"""Checks of the training and validation images: they have the ground truth that training needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blemish.errors import BadDataset
from blemish.structures import Dataset, Sample, Task
from blemish.training.monitored_metrics import is_loss


def check_ground_truth(samples: Sequence[Sample], task: Task) -> None:
    """Refuse images without the ground truth that the task needs.

    Raises:
        BadDataset: an image has no ground truth ("bad-dataset.no-ground-truth"), or not that of the task.
    """
    for sample in samples:
        where = sample.origin or sample.id
        if sample.ground_truth is None:
            raise BadDataset(
                f"{where}: the image has no ground truth. Label it, or leave it out", reason="no-ground-truth"
            )
        if "check_sample" in task.fields.hooks:
            task.hook("check_sample")(sample, where)


def check_objects(
    train: Sequence[Sample], validation: Sequence[Sample], task: Task, watched: Mapping[str, str]
) -> None:
    """Refuse training images without any object, and validation images without one if a metric needs it.

    Args:
        train: training images.
        validation: validation images.
        task: tasks without objects pass.
        watched: metrics that select the best epoch or change the learning rate, by recipe key.

    Raises:
        BadDataset: "bad-dataset.no-objects"; the message names the split.
    """
    if not task.has_objects:
        return
    if not _has_objects(train):
        raise BadDataset(
            f"the split 'train' has {len(train)} images and no object. Label objects, or split again",
            reason="no-objects",
        )
    needing = [(key, name) for key, name in watched.items() if not is_loss(name)]
    if needing and not _has_objects(validation):
        key, name = needing[0]
        raise BadDataset(
            f"the split 'val' has {len(validation)} images and no object, so that {name} cannot be measured. "
            f"Set data.split.seed to another number, or {key} to val_loss",
            reason="no-objects",
        )


def check_ids(dataset: Dataset) -> None:
    """Refuse image ids that cannot be written to a file, which names in old archives can be.

    Raises:
        BadDataset: "bad-dataset.unwritable-id"; the message names the id.
    """
    for sample in dataset:
        try:
            sample.id.encode()
        except UnicodeEncodeError:
            raise BadDataset(
                f"{dataset.root}: the name {sample.id!r} is not valid Unicode. Rename the image",
                reason="unwritable-id",
            ) from None


def _has_objects(samples: Sequence[Sample]) -> bool:
    """Return whether there is an object that is not a crowd."""
    return any(s.ground_truth is not None and not s.ground_truth.crowd.all() for s in samples)
