"""The masks format: images and mask files whose pixel values are labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.formats.masks_writer import write_masks
from blemish.data.image_index import ImageIndex
from blemish.data.label_builder import DEFAULT_LABEL, LabelBuilder
from blemish.data.mask_pairs import MaskPairs, find_mask_pairs
from blemish.data.read_context import ReadContext
from blemish.data.semantic_masks import SemanticMask, color_code, read_semantic_mask
from blemish.data.write_context import WriteContext, name_some
from blemish.errors import BadDataset
from blemish.structures import Dataset

NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt", "names.txt")
COLOR_FILES = ("labelmap.txt", "label_colors.txt")  # of CVAT: name:red,green,blue:parts:actions
BACKGROUND_NAMES = frozenset({"background", "_background_", "__background__", "bg", "none", "unlabeled"})
VOID = 255  # pixels that VOC ignores: the border of objects
MAX_INDEX_NEXT_TO_VOID = 100


@register("masks", rank=80, description="images/ next to masks/, or a.jpg next to a_mask.png")
class MasksFormat:
    """Semantic masks in folders next to those of the images, or next to the images themselves."""

    reports_unlabeled_images = True

    def recognizes(self, path: Path) -> bool:
        """Return whether most mask files have an image, by the names of folders and files."""
        return path.is_dir() and find_mask_pairs(ImageIndex(path)).is_data_set

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image with a mask, in the order of their paths."""
        found = find_mask_pairs(ImageIndex(path)) if path.is_dir() else MaskPairs({}, {})
        if not found.pairs:
            raise BadDataset(
                "found no image with a mask",
                where=path,
                remedy="put the images in the folder images and the masks in the folder masks",
                reason="no-label-file",
            )
        if found.repeated:
            raise BadDataset(
                f"expected one mask per image, got {' and '.join(found.repeated[0])}",
                where=path,
                remedy="move the masks that are not used to another place",
                reason="ambiguous-files",
            )
        _report_unpaired(found, path, context)
        masks = {
            image: mask for image, file in found.pairs.items() if (mask := _read(file, context)) is not None
        }
        names = _names(path, list(masks.values()), context)
        builder = LabelBuilder("masks", path, context)
        builder.declare(list(dict.fromkeys(names.values())))
        for image, mask in masks.items():
            file = found.pairs[image]
            raw = builder.image(
                image.relative_to(path).as_posix(),
                origin=str(file),
                split=found.splits[image],
                stated_hw=mask.size_hw,
            )
            if raw is None:
                continue
            for value, regions in mask.objects.items():
                for number, region in enumerate(regions):
                    if value in names:
                        origin = f"{file}: value {value}, region {number}"
                        builder.add(raw, names[value], region=region, origin=origin)
        context.note("each connected region of one value of a mask is one object")
        return builder.dataset(path, ordered=True)

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `images`, `masks` and `classes.txt`."""
        write_masks(dataset, root, context)


def _read(file: Path, context: ReadContext) -> SemanticMask | None:
    try:
        mask = read_semantic_mask(file)
    except BadDataset as error:
        context.problem(
            "bad-file",
            error.detail,
            origin=error.where,
            path=file,
            remedy=error.remedy,
            fix="leaves the image out",
        )
        return None
    if mask.thresholded:
        context.note("masks with gray values between black and white were read as black and white")
    return mask


def _report_unpaired(found: MaskPairs, path: Path, context: ReadContext) -> None:
    """Report images without a mask and masks without an image."""
    if found.images_without_mask:
        shown = name_some([p.name for p in found.images_without_mask])
        context.note(f"{len(found.images_without_mask)} images have no mask and were left out: {shown}")
    for image in found.images_without_mask:
        context.problem(
            "image-without-label",
            "the image has no mask",
            path=image,
            remedy="draw one, or save an empty mask if it has no objects",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    if found.masks_without_image:
        shown = name_some([p.name for p in found.masks_without_image])
        context.note(f"{len(found.masks_without_image)} masks have no image: {shown}")
    for mask in found.masks_without_image:
        context.problem(
            "label-without-image",
            "the mask has no image",
            path=mask,
            remedy="restore the image or remove the mask",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    if found.left_out:
        context.note(f"{found.left_out} masks of instances were left out; those of labels were read")


def _names(path: Path, masks: list[SemanticMask], context: ReadContext) -> Mapping[int, str]:
    """Return the label of each value in the masks; values that are not in the result are left out.

    Raises:
        BadDataset: a file of names does not fit the values.
    """
    counts = Counter(value for mask in masks for value in mask.objects)
    colors = any(mask.is_color for mask in masks)
    named = _color_names(path)
    if named and (colors or set(counts) <= set(named)):
        unknown = sorted(set(counts) - set(named))
        if unknown:
            shown = name_some([color_code(value) for value in unknown])
            raise BadDataset(
                f"the masks have colors that labelmap.txt does not name: {shown}",
                where=path,
                remedy="add them",
                reason="label-names",
            )
        return {v: n for v, n in named.items() if n.casefold() not in BACKGROUND_NAMES}
    if colors:
        context.note("the colors of the masks have no names and are the labels")
        return {v: color_code(v) for v in sorted(counts)}
    others = sorted(v for v in counts if v != VOID)
    if VOID in counts and others and max(others) <= MAX_INDEX_NEXT_TO_VOID:
        context.note(f"pixels with the value {VOID} are the border of objects, as in VOC, and were left out")
        del counts[VOID]
    if len(counts) == 1:
        names = _listed_names(path)
        label = names[0] if len(names) == 1 else DEFAULT_LABEL
        if label == DEFAULT_LABEL:
            context.note(f"the masks have one value; its label is {DEFAULT_LABEL!r}")
        return dict.fromkeys(counts, label)
    return _index_names(path, sorted(counts), context)


def _index_names(path: Path, values: list[int], context: ReadContext) -> Mapping[int, str]:
    """Return the labels of indices: names of a file, counted from 0 if the first is the background."""
    names = _listed_names(path)
    if not names:
        context.note("the values of the masks have no names and are the labels; classes.txt can name them")
        return {v: str(v) for v in values}
    offset = 0 if names[0].casefold() in BACKGROUND_NAMES else 1
    if values and values[-1] - offset >= len(names):
        raise BadDataset(
            f"the masks have the value {values[-1]}, and there are {len(names)} names",
            where=path,
            remedy="write one name per value, the background first",
            reason="label-names",
        )
    return {i + offset: n for i, n in enumerate(names) if i + offset > 0}


def _listed_names(path: Path) -> list[str]:
    file = next((f for n in NAME_FILES if (f := path / n).is_file()), None)
    text = "" if file is None else file.read_text("utf-8-sig", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _color_names(path: Path) -> dict[int, str]:
    """Return the label of each color in labelmap.txt."""
    file = next((f for n in COLOR_FILES if (f := path / n).is_file()), None)
    text = "" if file is None else file.read_text("utf-8-sig", "replace")
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        numbers = rest.split(":")[0].split(",")
        if not line.startswith("#") and len(numbers) == 3 and all(n.strip().isdecimal() for n in numbers):
            red, green, blue = (int(n) for n in numbers)
            found[65536 * red + 256 * green + blue] = name.strip()
    return found
