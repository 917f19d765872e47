"""Pascal VOC: an XML file for each image, lists in ImageSets, painted masks where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blemish.data.coordinates import place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.formats.voc_writer import write_voc
from blemish.data.formats.voc_xml import VocAnnotation, read_page
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.polygon_masks import RasterMask
from blemish.data.raw_annotations import Box, RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset
from blemish.structures import Dataset, Task

YEARS = ("VOC2007", "VOC2012")


@register("voc", rank=30, description="Annotations/*.xml beside JPEGImages, or VOCdevkit")
class VocReader:
    """One year, several years side by side, or XML files beside their images."""

    def recognizes(self, path: Path) -> bool:
        """Whether there are XML files where VOC keeps them."""
        return path.is_dir() and bool(_years(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """One sample for each image, year by year, in the order of the stems."""
        years = _years(path) if path.is_dir() else []
        if not years:
            raise BadDataset(
                f"{path}: no XML files in it; give the folder that holds Annotations and JPEGImages"
            )
        pages: list[tuple[Path, VocAnnotation]] = []
        for year in years:
            pages += [
                (year, page) for file in _xml_files(year) if (page := read_page(file, context)) is not None
            ]
        names = {o.name for _, page in pages for o in page.objects}
        if not names:
            raise BadDataset(f"{path}: no XML file holds an object; label some first")
        labels = labels_with_display_names(sorted(names))
        _other_names([page for _, page in pages], context)
        shift = _first_pixel([page for _, page in pages], context)
        drawn, painted, missing = _drawn(
            path, years, pages, {n: i for i, n in enumerate(labels.names)}, shift, context
        )
        context.missing_images(missing, context.images or path)
        if not drawn:
            raise BadDataset(f"{path}: none of its XML files has an image; say where they are with images=")
        task = Task.DETECTION
        with_objects = [d for d in drawn if len(d)]
        if (painted or not with_objects) and context.task in (None, Task.SEGMENTATION):
            whole = bool(painted) and all(d.path in painted for d in with_objects)
            if whole or (context.task is not None and context.task.has_masks):
                task = Task.SEGMENTATION
                drawn = _with_masks(drawn, painted, context)
            else:
                context.note(
                    f"{len(painted)} of {len(drawn)} images have painted masks; task=segmentation reads those"
                )
        samples = place_all(drawn, task, labels, context)
        return Dataset(task=task, labels=labels, samples=samples, root=path, format="voc")

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Annotations, JPEGImages, ImageSets; for segmentation also the two folders of painted masks."""
        write_voc(dataset, root, context)


def _years(path: Path) -> list[Path]:
    """The folders that hold annotations: this one, those of VOCdevkit's years, or one below."""
    if _has_xml(path / "Annotations"):
        return [path]
    inside = [path / "VOCdevkit" / y for y in YEARS] + [path / y for y in YEARS]
    years = [y for y in inside if _has_xml(y / "Annotations")]
    if years:
        return years
    below = [p for p in sorted(path.iterdir()) if p.is_dir() and split_named(p.name)]
    return [p for p in below if _has_xml(p)] or ([path] if _has_xml(path) else [])


def _has_xml(folder: Path) -> bool:
    """Whether a folder holds XML files, and the first is one of VOC's."""
    if not folder.is_dir():
        return False
    first = next((f for f in sorted(folder.iterdir()) if f.suffix.casefold() == ".xml"), None)
    if first is None:
        return False
    with first.open("rb") as stream:
        return b"<annotations" not in stream.read(2000)  # CVAT's own


def _xml_files(year: Path) -> list[Path]:
    folder = year / "Annotations"
    folder = folder if folder.is_dir() else year
    return sorted(f for f in folder.iterdir() if f.suffix.casefold() == ".xml" and not f.name.startswith("."))


def _other_names(pages: list[VocAnnotation], context: ReadContext) -> None:
    """One note on files whose <filename> is that of another image."""
    other = [p for p in pages if p.says_name and Path(p.says_name.replace("\\", "/")).stem != p.path.stem]
    if other and context.lenient:
        context.problem(
            "other-filename",
            f"{len(other)} of {len(pages)} XML files name another image in <filename>,"
            f" {other[0].says_name!r} here",
            origin=str(other[0].path),
            remedy="nothing need be done: images are found by the name of the XML file",
            severity=Severity.NOTE,
            fix="writes the right name",
        )


def _first_pixel(pages: list[VocAnnotation], context: ReadContext) -> float:
    """What to take from the near corner: VOC counts pixels from 1, far corner included; many tools from 0."""
    if pages and all(p.says_first_pixel for p in pages):
        return 1.0
    if any(min(o.corners[:2]) == 0 for p in pages for o in p.objects):
        context.note("its boxes count pixels from 0, not from 1 as Pascal VOC does, and were read so")
        return 0.0
    return 1.0


def _drawn(
    path: Path,
    years: list[Path],
    pages: list[tuple[Path, VocAnnotation]],
    labels: Mapping[str, int],
    shift: float,
    context: ReadContext,
) -> tuple[list[RawAnnotations], dict[Path, Path], list[tuple[str, str]]]:
    """(images with their boxes, the painted mask of those that have one, absent images)."""
    drawn: list[RawAnnotations] = []
    painted: dict[Path, Path] = {}
    missing: list[tuple[str, str]] = []
    for year in years:
        folder = context.images or (year / "JPEGImages" if (year / "JPEGImages").is_dir() else year)
        shelf = ImageIndex(folder)
        splits = _splits(year, context)
        masks = {f.stem: f for f in sorted((year / "SegmentationObject").glob("*.png"))}
        seen: set[str] = set()
        for _, page in (p for p in pages if p[0] == year):
            stem = page.path.stem
            image = _image(page, shelf)
            seen |= {stem} if image is None else {stem, image.stem}  # they may differ in case
            if image is None:
                if context.missing != "keep" or context.lenient:
                    missing.append((stem, str(page.path)))
                    continue
                image = folder / f"{stem}.jpg"
            one = RawAnnotations(
                id=sample_id(image, path),
                path=image,
                split=splits.get(stem),
                origin=str(page.path),
                stated_hw=page.stated_hw,
            )
            for written in page.objects:
                x1, y1, x2, y2 = written.corners
                box: Box = (min(x1 - shift, x2), min(y1 - shift, y2), x2, y2)
                one.add(
                    labels[written.name],
                    box,
                    difficult=written.difficult,
                    truncated=written.truncated,
                    origin=f"{page.path}:{written.line}",
                )
            if splits and stem not in splits and context.lenient:
                context.problem(
                    "image-not-listed",
                    "it has an XML file, and no list of ImageSets names it, as they name others",
                    origin=str(page.path),
                    path=image,
                    remedy="list it, or divide the set anew: blemish data split",
                    severity=Severity.WARNING,
                    fix="drops the image",
                    drops_image=True,
                )
            drawn.append(one)
            if stem in masks:
                painted[image] = masks[stem]
        _unlabelled(year, shelf, splits, seen, context)
        _of_one_stem(shelf, seen, {d.path for d in drawn}, context)
    return drawn, painted, missing


def _image(page: VocAnnotation, shelf: ImageIndex) -> Path | None:
    """The image of the page's stem; of several, the one that it names.

    <filename> is wrong too often to be asked for more.
    """
    found = shelf.by_stem(page.path.stem)
    name = page.says_name
    if found is None or name == found.name or Path(name).name != name or Path(name).stem != found.stem:
        return found
    named = found.with_name(name)
    return named if is_image_name(name) and named.is_file() else found


def _of_one_stem(shelf: ImageIndex, seen: set[str], taken: set[Path], context: ReadContext) -> None:
    """Images that share their stem with one that an XML file is for: nothing says what is in them."""
    if not context.lenient:
        return
    own = [p for p in shelf.files.values() if not any("Segmentation" in part for part in p.parts[-3:-1])]
    for image in own:
        if image.stem in seen and image not in taken:
            context.problem(
                "image-without-label",
                "its XML file is for another image of the same name",
                path=image,
                remedy="give it a name and an XML file of its own, or take it away",
                severity=Severity.WARNING,
                fix="leaves it out",
            )


def _splits(year: Path, context: ReadContext) -> dict[str, str]:
    """The split of each stem that ImageSets lists; trainval is train where nothing says more."""
    out: dict[str, str] = {}
    listed: dict[tuple[str, str], str] = {}  # Segmentation may be divided in another way than Main
    for name, split in (("trainval", "train"), ("train", "train"), ("val", "val"), ("test", "test")):
        for folder in ("Segmentation", "Main"):
            file = year / "ImageSets" / folder / f"{name}.txt"
            if file.is_file():
                for line in file.read_text("utf-8", "replace").splitlines():
                    if line.strip():
                        word = line.split()[0]
                        stem = Path(word).stem if is_image_name(word) else word
                        if name != "trainval":  # which holds those of train and val
                            first = listed.setdefault((folder, stem), split)
                            if first != split:
                                context.in_two_splits(stem, first, split, origin=str(file))
                        out[stem] = split
    if not out:
        own = split_named(year.name)
        return {f.stem: own for f in _xml_files(year)} if own else {}
    return out


def _unlabelled(
    year: Path, shelf: ImageIndex, splits: Mapping[str, str], seen: set[str], context: ReadContext
) -> None:
    """Images that a list or the folder names and no XML file."""
    stems = {Path(f).stem: p for f, p in shelf.files.items() if "Segmentation" not in f}
    absent = sorted(s for s in splits if s not in seen and s not in stems)
    bare = sorted(s for s in {*splits, *stems} if s not in seen and s in stems)
    for stem in absent:
        context.problem(
            "missing-image",
            f"ImageSets lists {stem!r}, and there is neither an image nor an XML file of it",
            origin=str(year / "ImageSets"),
            remedy="drop the line or restore both",
            severity=Severity.WARNING,
            fix="drops the line",
        )
    for stem in bare:
        context.problem(
            "image-without-label",
            "there is no XML file for the image",
            path=stems[stem],
            remedy="label it, or write an XML file without objects",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    if absent:
        context.note(
            f"{len(absent)} stems of ImageSets have neither image nor XML file, such as {absent[0]!r}"
        )
    if bare:
        context.note(f"{len(bare)} images have no XML file and were left out, such as {bare[0]!r}")


def _with_masks(
    drawn: list[RawAnnotations], painted: Mapping[Path, Path], context: ReadContext
) -> list[RawAnnotations]:
    """The images whose objects are painted, with a mask for each: object k has the value k from 1."""
    kept = [d for d in drawn if d.path in painted or not len(d)]
    if len(kept) < len(drawn):
        context.note(f"{len(drawn) - len(kept)} images without painted masks were left out")
    for one in kept:
        if one.path in painted:
            size_hw = one.stated_hw or (0, 0)
            one.regions = [RasterMask(size_hw, painted[one.path], k + 1) for k in range(len(one))]
    return kept
