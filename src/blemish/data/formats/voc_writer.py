"""A data set as Pascal VOC."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.data.formats.voc_xml import page_text
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

MOST_PAINTED = 254  # 0 is background, 255 the border that counts for nothing


def write_voc(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Annotations, JPEGImages, ImageSets; for segmentation also the two folders of painted masks."""
    require_task(dataset, "voc", Task.DETECTION, Task.SEGMENTATION, Task.LOCALIZATION)
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
        text = page_text(sample, name)
        (root / "Annotations" / f"{stem}.xml").write_text(text, "utf-8")
        if sample.ground_truth is not None and sample.ground_truth.masks and sample.size_hw is not None:
            paint_masks(sample.ground_truth, sample.size_hw, root, stem, sample, context)
        lists.setdefault(sample.split or "", []).append(stem)
    for split, stems in lists.items() if splits else ():
        folders = ("Main", "Segmentation") if dataset.task.has_masks else ("Main",)
        for folder in folders:
            file = root / "ImageSets" / folder / f"{split}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{s}\n" for s in stems), "utf-8")


def paint_masks(
    ground_truth: GroundTruth,
    size_hw: tuple[int, int],
    root: Path,
    stem: str,
    sample: Sample,
    context: WriteContext,
) -> None:
    """Paint object k with k + 1, and its class with its label's number + 1, in two palette pictures."""
    from PIL import Image

    masks = ground_truth.masks or ()
    if len(masks) > MOST_PAINTED or len(ground_truth.labels) > MOST_PAINTED:
        context.lose(
            f"a painted mask holds {MOST_PAINTED} objects and labels, the rest have boxes only", sample
        )
    objects, classes = np.zeros(size_hw, np.uint8), np.zeros(size_hw, np.uint8)
    for row, mask in enumerate(masks[:MOST_PAINTED]):
        region = mask_to_array(mask)
        if (objects[region] > 0).any():
            context.lose("objects overlap, and a pixel belongs to the later one", sample)
        if not region.any():
            context.lose("an empty mask is not kept", sample)
        objects[region] = row + 1
        classes[region] = min(int(ground_truth.label_index[row]) + 1, MOST_PAINTED)
    for folder, painted in (("SegmentationObject", objects), ("SegmentationClass", classes)):
        (root / folder).mkdir(exist_ok=True)
        picture = Image.fromarray(painted)  # a grey picture; with a palette it becomes one of colours
        picture.putpalette(PALETTE)
        picture.save(root / folder / f"{stem}.png")


def _palette() -> bytes:
    """VOC's 256 colours: the bits of a number, dealt out to red, green and blue from the highest down."""
    out = bytearray()
    for number in range(256):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        out += bytes(colour)
    return bytes(out)


PALETTE = _palette()
