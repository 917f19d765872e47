"""The good-images format: images without defects, and folders of defects to measure with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.arrays import Mask
from blemish.data.findings import Severity
from blemish.data.folder_names import is_tool_folder
from blemish.data.formats import register
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task, split_folders
from blemish.errors import BadDataset, BadImage
from blemish.geometry import mask_from_array, mask_to_array
from blemish.imaging import open_image
from blemish.structures import Dataset, Sample, Task
from blemish.tasks.anomaly_task import LABELS, is_good_name, make_ground_truth

MASK_FOLDER = "ground_truth"
MASK_SUFFIXES = ("_mask", "")
GOOD, DEFECT = "good", "anomaly"


@register(
    "good-images", rank=75, description="good/ beside folders of defects, with ground_truth/ (MVTec AD)"
)
class GoodImagesFormat:
    """Good images in one folder or in `good`, other folders with defects, their masks in `ground_truth`."""

    reports_unlabeled_images = True

    def recognizes(self, path: Path) -> bool:
        """Return whether there is a folder of masks named `ground_truth` beside a folder of good images."""
        if not (path / MASK_FOLDER).is_dir():
            return False
        return any(is_good_name(folder.name) for _, folder in _class_folders(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of split, folder and name.

        Without folders, every image is good. A defect without a mask is measured as an image only.
        """
        if not path.is_dir():
            raise BadDataset(
                "expected a folder of good images", where=path, remedy="pass the folder", reason="no-folder"
            )
        folders = list(_class_folders(path))
        samples: list[Sample] = []
        if not any(is_good_name(folder.name) for _, folder in folders):
            if folders:
                raise BadDataset(
                    f"expected a folder of good images, named good, got {folders[0][1].name}",
                    where=path,
                    remedy="name the folder of good images good, or pass the path of good images alone",
                    reason="no-good-folder",
                )
            folders = [("", path)]
        without_mask = 0
        for split, folder in folders:
            anomalous = folder != path and not is_good_name(folder.name)
            for image in ImageIndex(folder).files.values():
                mask = _mask_file(path, folder, image) if anomalous else None
                without_mask += anomalous and mask is None
                size_hw: tuple[int, int] | None = None
                masks: tuple[Mask, ...] | None = None if anomalous else ()
                if mask is not None:
                    found = _read_mask(mask, context)
                    if found is not None:
                        size_hw, masks = found
                samples.append(
                    Sample(
                        id=sample_id(image, path),
                        path=image,
                        size_hw=size_hw,
                        split=split or None,
                        ground_truth=make_ground_truth(anomalous=anomalous, size_hw=size_hw, masks=masks),
                        origin=str(folder),
                    )
                )
        if not samples:
            raise BadDataset(
                "the folder contains no images", where=path, remedy="add images", reason="no-images"
            )
        if without_mask and (path / MASK_FOLDER).is_dir():
            context.note(f"{without_mask} images of defects have no mask in {MASK_FOLDER}")
        return Dataset(
            task=Task.ANOMALY, labels=LABELS, samples=tuple(samples), root=path, format="good-images"
        )

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `good` and `anomaly`, in one folder per split if there are splits, and `ground_truth`."""
        require_task(dataset, "good-images", Task.ANOMALY)
        splits = split_folders(dataset)
        names = file_names(dataset, context)
        lose_extras(dataset, context)
        for sample in dataset.samples:
            if sample.ground_truth is None:
                context.lose("image-without-label", "the image has no label and is left out", sample)
                continue
            kind = DEFECT if len(sample.ground_truth) else GOOD
            parts = [sample.split or ""] if splits else []
            context.put(sample, root.joinpath(*parts, kind, names[sample.id]))
            if len(sample.ground_truth) and sample.ground_truth.masks:
                _write_mask(
                    root / MASK_FOLDER / kind / f"{Path(names[sample.id]).stem}_mask.png",
                    mask_to_array(sample.ground_truth.masks[0]),
                )


def _class_folders(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield split and path of each folder of good images or defects."""
    for folder in _folders(path):
        split = split_named(folder.name)
        if folder.name == MASK_FOLDER:
            continue
        if split is None or any(is_image_name(f.name) for f in folder.iterdir() if f.is_file()):
            yield "", folder
            continue
        for below in _folders(folder):
            yield split, below


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not is_tool_folder(p.name))


def _mask_file(root: Path, folder: Path, image: Path) -> Path | None:
    for suffix in MASK_SUFFIXES:
        file = root / MASK_FOLDER / folder.name / f"{image.stem}{suffix}.png"
        if file.is_file():
            return file
    return None


def _read_mask(file: Path, context: ReadContext) -> tuple[tuple[int, int], tuple[Mask, ...]] | None:
    """Return size and mask of a file whose pixels above 0 are defects."""
    try:
        pixels = np.asarray(open_image(file).to_pil().convert("L")) > 0
    except BadImage as error:
        context.problem(
            "bad-file",
            str(error),
            path=file,
            remedy="repair or remove the mask",
            severity=Severity.ERROR,
            fix="measures the image without it",
        )
        return None
    if not pixels.any():
        context.note(f"{file} marks no pixel")
        return None
    return (pixels.shape[0], pixels.shape[1]), (mask_from_array(pixels),)


def _write_mask(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255).save(path, "PNG")
