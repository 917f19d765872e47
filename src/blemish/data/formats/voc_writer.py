"""Write a data set in the voc format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.data.formats.voc_xml import annotation_xml
from blemish.data.write_context import (
    WriteContext,
    file_names,
    lose_extras,
    lose_order,
    require_task,
    split_folders,
)
from blemish.geometry import mask_to_array
from blemish.structures import Dataset, GroundTruth, Sample, Task

MAX_MASKS = 254  # 0 is background, 255 is the ignored border


def write_voc(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write Annotations, JPEGImages and ImageSets; for segmentation also the two folders of index masks.

    Args:
        dataset: of a task with boxes.
        root: an existing, empty folder.
        context: copies the images; receives what VOC cannot represent.

    Raises:
        WrongTask: the task has no boxes.
    """
    require_task(dataset, "voc", *(t for t in Task if t.has_boxes))
    splits = split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, dict.fromkeys(("difficult", "truncated", "masks"), True))
    lose_order(dataset, context)
    lists: dict[str, list[str]] = {}
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for sample in dataset.samples:
        name = names[sample.id]
        stem = Path(name).stem
        context.put(sample, root / "JPEGImages" / name)
        text = annotation_xml(sample, name)
        (root / "Annotations" / f"{stem}.xml").write_text(text, "utf-8")
        if sample.ground_truth is not None and sample.ground_truth.masks and sample.size_hw is not None:
            _write_masks(sample.ground_truth, sample.size_hw, root, stem, sample, context)
        lists.setdefault(sample.split or "", []).append(stem)
    for split, stems in lists.items() if splits else ():
        folders = ("Main", "Segmentation") if dataset.task.has_masks else ("Main",)
        for folder in folders:
            file = root / "ImageSets" / folder / f"{split}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{s}\n" for s in stems), "utf-8")


def _write_masks(
    ground_truth: GroundTruth,
    size_hw: tuple[int, int],
    root: Path,
    stem: str,
    sample: Sample,
    context: WriteContext,
) -> None:
    """Write two indexed PNG files: k + 1 for the pixels of object k, and label index + 1 for each label."""
    from PIL import Image

    masks = ground_truth.masks or ()
    if len(masks) > MAX_MASKS or len(ground_truth.labels) > MAX_MASKS:
        context.lose(
            "too-many-objects",
            f"an index mask has at most {MAX_MASKS} objects and labels, so the others have boxes only",
            sample,
        )
    objects, classes = np.zeros(size_hw, np.uint8), np.zeros(size_hw, np.uint8)
    for row, mask in enumerate(masks[:MAX_MASKS]):
        region = mask_to_array(mask)
        if (objects[region] > 0).any():
            context.lose(
                "overlap", "objects overlap, so shared pixels belong to the later object only", sample
            )
        if not region.any():
            context.lose("empty-mask", "an empty mask is not kept", sample)
        objects[region] = row + 1
        classes[region] = min(int(ground_truth.label_index[row]) + 1, MAX_MASKS)
    for folder, indices in (("SegmentationObject", objects), ("SegmentationClass", classes)):
        (root / folder).mkdir(exist_ok=True)
        mask_image = Image.fromarray(indices)  # grayscale; putpalette makes it an indexed image
        mask_image.putpalette(PALETTE)
        mask_image.save(root / folder / f"{stem}.png")


def _make_palette() -> bytes:
    """Return VOC's 256 colors: the bits of an index are distributed over red, green and blue."""
    out = bytearray()
    for number in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                color[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        out += bytes(color)
    return bytes(out)


PALETTE = _make_palette()
