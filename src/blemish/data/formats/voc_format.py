"""The voc format: one XML file per image, lists in ImageSets, and index masks if there are any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.formats.voc_layout import VocFolder, split_folders, voc_folders, xml_stem
from blemish.data.formats.voc_writer import write_voc
from blemish.data.formats.voc_xml import VocAnnotation, read_annotation
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.polygon_masks import RasterMask
from blemish.data.raw_annotations import Box, RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.structures import Dataset, Task


@register("voc", rank=30, description="Annotations/*.xml next to JPEGImages, or VOCdevkit")
class VocFormat:
    """One year, several years in one folder, or XML files next to their images."""

    reports_unlabeled_images = True

    def recognizes(self, path: Path) -> bool:
        """Return whether there are XML files in one of the folders of VOC."""
        return path.is_dir() and bool(voc_folders(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of year and stem."""
        years = voc_folders(path) if path.is_dir() else []
        if not years:
            raise BadDataset(
                "found no XML files",
                where=path,
                remedy="pass the folder with Annotations and JPEGImages",
                reason="no-label-file",
            )
        annotations: list[tuple[VocFolder, VocAnnotation]] = []
        for year in years:
            annotations += [
                (year, annotation)
                for file in year.xml_files()
                if (annotation := read_annotation(file, context)) is not None
            ]
        names = {o.name for _, annotation in annotations for o in annotation.objects}
        if not names:
            raise BadDataset(
                "no XML file has an object",
                where=path,
                remedy="label some images first",
                reason="no-labels",
            )
        labels = labels_with_display_names(sorted(names))
        _report_splits_without_annotations(path, years, context)
        _report_other_names([annotation for _, annotation in annotations], context)
        offset = _coordinate_offset([annotation for _, annotation in annotations], context)
        raw_annotations, mask_files, missing = _read_objects(
            path, years, annotations, {n: i for i, n in enumerate(labels.names)}, offset, context
        )
        context.missing_images(missing, context.images or path)
        if not raw_annotations:
            raise BadDataset(
                "no XML file has an image",
                where=path,
                remedy="pass the folder of the images with --images",
                reason="no-images",
            )
        task = boxes_or_masks(raw_annotations, context) if _has_outline(annotations) else Task.DETECTION
        with_objects = [d for d in raw_annotations if len(d)]
        if (mask_files or not with_objects) and (context.task is None or context.task.has_masks):
            all_have_masks = bool(mask_files) and all(d.path in mask_files for d in with_objects)
            if all_have_masks or (context.task is not None and context.task.has_masks):
                task = Task.SEGMENTATION
                raw_annotations = _with_masks(raw_annotations, mask_files, context)
            else:
                context.note(
                    f"{len(mask_files)} of {len(raw_annotations)} images have masks;"
                    " --task segmentation reads only those"
                )
        samples = place_all(raw_annotations, task, labels, context)
        return Dataset(task=task, labels=labels, samples=samples, root=path, format="voc")

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write Annotations, JPEGImages and ImageSets; for segmentation also two folders of index masks."""
        write_voc(dataset, root, context)


def _report_other_names(annotations: list[VocAnnotation], context: ReadContext) -> None:
    """Report the number of files whose <filename> is that of another image."""
    other = [
        p
        for p in annotations
        if p.image_name and Path(p.image_name.replace("\\", "/")).stem not in (p.path.stem, xml_stem(p.path))
    ]
    if other and context.lenient:
        context.problem(
            "other-filename",
            f"{len(other)} of {len(annotations)} XML files have the name of another image in <filename>,"
            f" such as {other[0].image_name!r}",
            origin=str(other[0].path),
            remedy="no action is necessary: images are found by the name of the XML file",
            severity=Severity.NOTE,
            fix="writes the correct name",
        )


def _coordinate_offset(annotations: list[VocAnnotation], context: ReadContext) -> float:
    """Return what to subtract from xmin and ymin: VOC counts pixels from 1, many tools count from 0."""
    if annotations and all(p.counts_from_one for p in annotations):
        return 1.0
    objects = [o for p in annotations for o in p.objects]
    # Tools that write outlines count from 0.
    if any(o.outline is not None or min(o.corners[:2]) == 0 for o in objects):
        context.note("the boxes count pixels from 0, not from 1 as in Pascal VOC, and were read accordingly")
        return 0.0
    return 1.0


def _read_objects(
    path: Path,
    years: list[VocFolder],
    annotations: list[tuple[VocFolder, VocAnnotation]],
    labels: Mapping[str, int],
    offset: float,
    context: ReadContext,
) -> tuple[list[RawAnnotations], dict[Path, Path], list[tuple[str, str]]]:
    """Return the images with their boxes, the mask files of images, and the images that do not exist."""
    raw_annotations: list[RawAnnotations] = []
    mask_files: dict[Path, Path] = {}
    missing: list[tuple[str, str]] = []
    for year in years:
        folder = context.images or year.images
        image_index = ImageIndex(folder)
        splits = _read_splits(year, context)
        masks = {f.stem: f for f in sorted((year.path / "SegmentationObject").glob("*.png"))}
        annotated_stems: set[str] = set()
        for _, annotation in (p for p in annotations if p[0] == year):
            stem = xml_stem(annotation.path)
            image = _image_of(annotation, image_index)
            annotated_stems |= {stem} if image is None else {stem, image.stem}  # the stems may differ in case
            if image is None:
                if context.missing != "keep" or context.lenient:
                    missing.append((stem, str(annotation.path)))
                    continue
                image = folder / f"{stem}.jpg"
            raw = RawAnnotations(
                id=sample_id(image, path),
                path=image,
                split=splits.get(stem),
                origin=str(annotation.path),
                stated_hw=annotation.stated_hw,
            )
            for voc_object in annotation.objects:
                x1, y1, x2, y2 = voc_object.corners
                box: Box = (min(x1 - offset, x2), min(y1 - offset, y2), x2, y2)
                raw.add(
                    labels[voc_object.name],
                    box,
                    region=None if voc_object.outline is None else (voc_object.outline,),
                    difficult=voc_object.difficult,
                    truncated=voc_object.truncated,
                    origin=f"{annotation.path}:{voc_object.line}",
                )
            if splits and stem not in splits and context.lenient:
                context.problem(
                    "image-not-listed",
                    "it has an XML file, and no list of ImageSets contains it, although there are lists",
                    origin=str(annotation.path),
                    path=image,
                    remedy="add it to a list, or split the data set again with blemish data split",
                    severity=Severity.WARNING,
                    fix="drops the image",
                    drops_image=True,
                )
            raw_annotations.append(raw)
            if stem in masks:
                mask_files[image] = masks[stem]
        _report_images_without_annotation(year, image_index, splits, annotated_stems, context)
        _report_shared_stems(image_index, annotated_stems, {d.path for d in raw_annotations}, context)
    return raw_annotations, mask_files, missing


def _image_of(annotation: VocAnnotation, image_index: ImageIndex) -> Path | None:
    """Return the image with the stem of the XML file; if there are several, the one in <filename>.

    <filename> is wrong too often to be used for more.
    """
    found = image_index.by_stem(xml_stem(annotation.path))
    name = annotation.path.stem if is_image_name(annotation.path.stem) else annotation.image_name
    if found is None or name == found.name or Path(name).name != name or Path(name).stem != found.stem:
        return found
    named = found.with_name(name)
    return named if is_image_name(name) and named.is_file() else found


def _report_shared_stems(
    image_index: ImageIndex, annotated_stems: set[str], read_images: set[Path], context: ReadContext
) -> None:
    """Report images that share their stem with the image of an XML file; they have no annotation."""
    if not context.lenient:
        return
    images = [
        p for p in image_index.files.values() if not any("Segmentation" in part for part in p.parts[-3:-1])
    ]
    for image in images:
        if image.stem in annotated_stems and image not in read_images:
            context.problem(
                "image-without-label",
                "its XML file belongs to another image with the same stem",
                path=image,
                remedy="rename it and add an XML file, or remove it",
                severity=Severity.WARNING,
                fix="leaves it out",
            )


def _read_splits(year: VocFolder, context: ReadContext) -> dict[str, str]:
    """Return the split of each stem in ImageSets; trainval means train if no other list contains the stem."""
    out: dict[str, str] = {}
    known = {xml_stem(file) for file in year.xml_files()}
    listed: dict[tuple[str, str], str] = {}  # Segmentation may have other splits than Main
    for name, split in (("trainval", "train"), ("train", "train"), ("val", "val"), ("test", "test")):
        for folder in ("Segmentation", "Main"):
            file = year.path / "ImageSets" / folder / f"{name}.txt"
            if file.is_file():
                for line in file.read_text("utf-8", "replace").splitlines():
                    if line.strip():
                        stem = _listed_stem(line, known)
                        if name != "trainval":  # which contains those of train and val
                            first = listed.setdefault((folder, stem), split)
                            if first != split:
                                context.in_two_splits(stem, first, split, origin=str(file))
                        out[stem] = split
    return out or _splits_of_folders(year)


def _listed_stem(line: str, known: set[str]) -> str:
    """Return the stem in a line of a list; the lists of one label have 1, 0 or -1 after it."""
    for entry in (line.strip(), line.split()[0]):
        stem = Path(entry).stem if is_image_name(entry) else entry
        if stem in known:
            break
    return stem


def _splits_of_folders(year: VocFolder) -> dict[str, str]:
    """Return the split of each stem by the folders of the XML files, or of the data set itself."""
    out: dict[str, str] = {}
    own = split_named(year.path.name)
    for file in year.xml_files():
        below = file.relative_to(year.annotations).parts[:-1]
        split = next((s for s in map(split_named, below) if s), own)
        if split is not None:
            out[xml_stem(file)] = split
    return out


def _has_outline(annotations: list[tuple[VocFolder, VocAnnotation]]) -> bool:
    return any(o.outline is not None for _, annotation in annotations for o in annotation.objects)


def _report_splits_without_annotations(path: Path, years: list[VocFolder], context: ReadContext) -> None:
    """Report the split folders next to others that contain images and no XML file."""
    if not any(split_named(year.path.name) for year in years):
        return
    for folder in split_folders(path):
        count = 0 if any(y.path == folder for y in years) else len(ImageIndex(folder).files)
        if count:
            context.note(f"{count} images in {folder.name} have no XML files and were left out")
            context.problem(
                "image-without-label",
                f"{count} images in {folder.name} have no XML files",
                path=folder,
                remedy="label them, or ignore this note",
                severity=Severity.NOTE,
                fix="leaves them out",
            )


def _report_images_without_annotation(
    year: VocFolder,
    image_index: ImageIndex,
    splits: Mapping[str, str],
    annotated_stems: set[str],
    context: ReadContext,
) -> None:
    """Report stems of lists without an image, and images without an XML file."""
    stems = {Path(f).stem: p for f, p in image_index.files.items() if "Segmentation" not in f}
    missing_stems = sorted(s for s in splits if s not in annotated_stems and s not in stems)
    stems_without_xml = sorted(s for s in {*splits, *stems} if s not in annotated_stems and s in stems)
    for stem in missing_stems:
        context.problem(
            "missing-image",
            f"ImageSets lists {stem!r}, which has neither an image nor an XML file",
            origin=str(year.path / "ImageSets"),
            remedy="remove the line or restore both files",
            severity=Severity.WARNING,
            fix="drops the line",
        )
    for stem in stems_without_xml:
        context.problem(
            "image-without-label",
            "the image has no XML file",
            path=stems[stem],
            remedy="label it, or add an XML file without objects",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    if missing_stems:
        context.note(
            f"{len(missing_stems)} stems of ImageSets have neither image nor XML file,"
            f" such as {missing_stems[0]!r}"
        )
    if stems_without_xml:
        context.note(
            f"{len(stems_without_xml)} images have no XML file and were left out,"
            f" such as {stems_without_xml[0]!r}"
        )


def _with_masks(
    raw_annotations: list[RawAnnotations], mask_files: Mapping[Path, Path], context: ReadContext
) -> list[RawAnnotations]:
    """Return the images with masks, and set the mask of each object: object k has the pixel value k + 1."""
    kept = [d for d in raw_annotations if d.path in mask_files or not len(d)]
    if len(kept) < len(raw_annotations):
        context.note(f"{len(raw_annotations) - len(kept)} images without masks were left out")
    for raw in kept:
        if raw.path in mask_files:
            size_hw = raw.stated_hw or (0, 0)
            raw.regions = [RasterMask(size_hw, mask_files[raw.path], k + 1) for k in range(len(raw))]
    return kept
