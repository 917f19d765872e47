"""Write a data set in the masks format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.semantic_masks import MAX_VALUES
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task, split_folders
from blemish.errors import BadInput
from blemish.geometry import connected_components, mask_to_array
from blemish.structures import Dataset, GroundTruth, Sample, Task

BACKGROUND = "background"


def write_masks(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write `images`, `masks` with the label index + 1 as pixel value, and `classes.txt`.

    Args:
        dataset: of a task with masks.
        root: an existing, empty folder.
        context: copies the images; receives what a semantic mask cannot represent.

    Raises:
        WrongTask: the task has no masks.
        BadInput: there are too many labels, or one is called background or contains a line break.
    """
    from PIL import Image

    require_task(dataset, "masks", *(t for t in Task if t.has_masks))
    if len(dataset.labels) >= MAX_VALUES:
        raise BadInput(
            f"{dataset.root}: a mask has at most {MAX_VALUES - 1} labels, got {len(dataset.labels)}; choose"
            " another format",
            reason="label-count",
        )
    for name in dataset.labels:
        if name.casefold() == BACKGROUND or name.splitlines() != [name]:
            raise BadInput(
                f"label {name!r}: expected one line that is not {BACKGROUND!r}. Rename it.",
                reason="label-name",
            )
    split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True})
    (root / "classes.txt").write_text("".join(f"{n}\n" for n in (BACKGROUND, *dataset.labels)), "utf-8")
    for sample in dataset.samples:
        split, name = sample.split or "", names[sample.id]
        values = _values(sample, context)
        if values is None:
            context.lose("image-without-mask", "the image has no mask, and is not read again", sample)
        else:
            target = root / split / "masks" / f"{Path(name).stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(target)
        context.put(sample, root / split / "images" / name)


def _values(sample: Sample, context: WriteContext) -> NDArray[np.uint8] | None:
    """Return the label index + 1 at each pixel, (h, w) uint8, or None for an image without ground truth."""
    ground_truth = sample.ground_truth
    if ground_truth is None or ground_truth.masks is None or sample.size_hw is None:
        return None
    values = np.zeros(sample.size_hw, np.uint8)
    for index, mask in zip(ground_truth.label_index.tolist(), ground_truth.masks, strict=True):
        values[mask_to_array(mask)] = index + 1
    found = {
        (int(value), region.counts.tobytes())
        for value in np.unique(values[values > 0])
        for region in connected_components(values == value)
    }
    if found != _objects(ground_truth):
        context.lose(
            "regions",
            "objects are not kept apart: each connected region of one label becomes one object, and shared"
            " pixels belong to the later object",
            sample,
        )
    return values


def _objects(ground_truth: GroundTruth) -> set[tuple[int, bytes]]:
    masks = ground_truth.masks or ()
    rows = zip(ground_truth.label_index.tolist(), masks, strict=True)
    return {(index + 1, mask.counts.tobytes()) for index, mask in rows}
