"""Pascal VOC: an XML file for each photograph, lists in ImageSets, painted masks where there are any."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blemish.data.findings import DROPS_PHOTOGRAPH, Severity
from blemish.data.formats import register
from blemish.data.outlines import PaintedMask
from blemish.data.placing import Box, Drawn, place_all
from blemish.data.reading import Reading, Shelf, is_image_name, sample_id, split_named
from blemish.data.titles import labels_with_titles
from blemish.data.writing import Writing, file_names, lose_extras, lose_order, require_task, split_folders
from blemish.errors import BadDataset
from blemish.geometry import mask_to_array
from blemish.vocabulary import Dataset, Sample, Task, Truth

MOST_PAINTED = 254  # 0 is background, 255 the border that counts for nothing
YEARS = ("VOC2007", "VOC2012")
FIRST_PIXEL_IS_ONE = "first pixel 1"  # what our own files say, so that nobody has to guess


@dataclass(slots=True)
class Written:
    """One object as its XML file says it."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    truncated: bool
    line: int


@dataclass(slots=True)
class Page:
    """One XML file."""

    path: Path
    stated_hw: tuple[int, int] | None = None
    says_first_pixel: bool = False
    says_name: str = ""
    objects: list[Written] = field(default_factory=list)


@register("voc", rank=30, says="Annotations/*.xml beside JPEGImages, or VOCdevkit")
class Voc:
    """One year, several years side by side, or XML files beside their photographs."""

    def recognises(self, path: Path) -> bool:
        """Whether there are XML files where VOC keeps them."""
        return path.is_dir() and bool(_years(path))

    def read(self, path: Path, reading: Reading) -> Dataset:
        """One sample for each photograph, year by year, in the order of the stems."""
        years = _years(path) if path.is_dir() else []
        if not years:
            raise BadDataset(
                f"{path}: no XML files in it; give the folder that holds Annotations and JPEGImages"
            )
        pages: list[tuple[Path, Page]] = []
        for year in years:
            pages += [
                (year, page) for file in _xml_files(year) if (page := _read_page(file, reading)) is not None
            ]
        names = {o.name for _, page in pages for o in page.objects}
        if not names:
            raise BadDataset(f"{path}: no XML file holds an object; label some first")
        labels = labels_with_titles(sorted(names))
        _other_names([page for _, page in pages], reading)
        shift = _first_pixel([page for _, page in pages], reading)
        drawn, painted, missing = _drawn(
            path, years, pages, {n: i for i, n in enumerate(labels.names)}, shift, reading
        )
        reading.missing_photographs(missing, reading.images or path)
        if not drawn:
            raise BadDataset(
                f"{path}: none of its XML files has a photograph; say where they are with images="
            )
        task = Task.DETECTION
        with_objects = [d for d in drawn if len(d)]
        if (painted or not with_objects) and reading.task in (None, Task.SEGMENTATION):
            whole = bool(painted) and all(d.path in painted for d in with_objects)
            if whole or reading.task is Task.SEGMENTATION:
                task = Task.SEGMENTATION
                drawn = _with_masks(drawn, painted, reading)
            else:
                reading.note(
                    f"{len(painted)} of {len(drawn)} photographs have painted masks; task=segmentation"
                    f" reads those"
                )
        samples = place_all(drawn, task, labels, reading)
        return Dataset(task=task, labels=labels, samples=samples, root=path, format="voc")

    def write(self, dataset: Dataset, writing: Writing) -> None:
        """Annotations, JPEGImages, ImageSets; for segmentation also the two folders of painted masks."""
        require_task(dataset, "voc", Task.DETECTION, Task.SEGMENTATION, Task.LOCALIZATION)
        splits = split_folders(dataset)
        names = file_names(dataset, writing)
        lose_extras(dataset, writing, dict.fromkeys(("difficult", "truncated", "masks"), True))
        lose_order(dataset, writing)
        lists: dict[str, list[str]] = {}
        for folder in ("Annotations", "JPEGImages"):
            (writing.root / folder).mkdir(parents=True, exist_ok=True)
        for sample in dataset.samples:
            name = names[sample.id]
            stem = Path(name).stem
            writing.put(sample, writing.root / "JPEGImages" / name)
            text = page_text(sample, name)
            (writing.root / "Annotations" / f"{stem}.xml").write_text(text, "utf-8")
            if sample.truth is not None and sample.truth.masks and sample.size_hw is not None:
                paint_masks(sample.truth, sample.size_hw, writing.root, stem, sample, writing)
            lists.setdefault(sample.split or "", []).append(stem)
        for split, stems in lists.items() if splits else ():
            folders = ("Main", "Segmentation") if dataset.task is Task.SEGMENTATION else ("Main",)
            for folder in folders:
                file = writing.root / "ImageSets" / folder / f"{split}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("".join(f"{s}\n" for s in stems), "utf-8")


def page_text(sample: Sample, name: str) -> str:
    """The XML file of a sample; its pixels count from 1, as the first one of the photograph does in VOC."""
    page = ET.Element("annotation")
    ET.SubElement(page, "folder").text = "JPEGImages"
    ET.SubElement(page, "filename").text = name
    source = ET.SubElement(page, "source")
    ET.SubElement(source, "annotation").text = f"blemish, {FIRST_PIXEL_IS_ONE}"
    if sample.size_hw is not None:
        size = ET.SubElement(page, "size")
        for side, value in (("width", sample.size_hw[1]), ("height", sample.size_hw[0]), ("depth", 3)):
            ET.SubElement(size, side).text = str(value)
    truth = sample.truth
    ET.SubElement(page, "segmented").text = str(int(truth is not None and truth.masks is not None))
    for row, label in enumerate(() if truth is None else truth.label_names):
        thing = ET.SubElement(page, "object")
        ET.SubElement(thing, "name").text = label
        truncated = bool(truth.truncated[row]) if truth.truncated.size else False  # type: ignore[union-attr]
        ET.SubElement(thing, "truncated").text = str(int(truncated))
        ET.SubElement(thing, "difficult").text = str(int(truth.difficult[row]))  # type: ignore[union-attr]
        corners = truth.boxes_xyxy[row] + np.array([1, 1, 0, 0])  # type: ignore[union-attr, index]
        box = ET.SubElement(thing, "bndbox")
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), corners.tolist(), strict=True):
            ET.SubElement(box, corner).text = str(int(value)) if value == int(value) else repr(value)
    ET.indent(page)
    return ET.tostring(page, encoding="unicode") + "\n"


def paint_masks(
    truth: Truth, size_hw: tuple[int, int], root: Path, stem: str, sample: Sample, writing: Writing
) -> None:
    """Paint object k with k + 1, and its class with its label's number + 1, in two palette pictures."""
    from PIL import Image

    masks = truth.masks or ()
    if len(masks) > MOST_PAINTED or len(truth.labels) > MOST_PAINTED:
        writing.lose(
            f"a painted mask holds {MOST_PAINTED} objects and labels, the rest have boxes only", sample
        )
    objects, classes = np.zeros(size_hw, np.uint8), np.zeros(size_hw, np.uint8)
    for row, mask in enumerate(masks[:MOST_PAINTED]):
        region = mask_to_array(mask)
        if (objects[region] > 0).any():
            writing.lose("objects overlap, and a pixel belongs to the later one", sample)
        if not region.any():
            writing.lose("an empty mask is not kept", sample)
        objects[region] = row + 1
        classes[region] = min(int(truth.label_index[row]) + 1, MOST_PAINTED)
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


def _read_page(file: Path, reading: Reading) -> Page | None:
    raw = file.read_bytes()
    try:
        if b"<!ENTITY" in raw:
            raise ET.ParseError("it defines entities, which no annotation needs")
        root = ET.fromstring(raw)  # noqa: S314 - entities are refused above
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two of encodings
        line = error.position[0] if isinstance(error, ET.ParseError) and hasattr(error, "position") else 1
        reading.problem(
            "bad-file",
            f"no valid XML ({error})",
            origin=f"{file}:{line}",
            path=file,
            remedy="mend it, save it in UTF-8, or remove it",
            fix="leaves the photograph out",
        )
        return None
    if root.tag.casefold() != "annotation":
        reading.problem(
            "bad-file",
            f"no page of Pascal VOC, it begins with <{root.tag}> and not with <annotation>"[:200],
            origin=str(file),
            path=file,
            remedy="write it again or remove it",
            fix="leaves the photograph out",
        )
        return None
    page = Page(file, says_first_pixel=FIRST_PIXEL_IS_ONE in (root.findtext("source/annotation") or ""))
    page.says_name = (root.findtext("filename") or "").strip()
    try:
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except (OverflowError, ValueError):
        height = width = 0
    page.stated_hw = (height, width) if height > 0 and width > 0 else None
    lines = [n for n, text in enumerate(raw.split(b"\n"), 1) for _ in range(text.count(b"<object"))]
    for number, element in enumerate(root.iter("object")):
        line = lines[number] if number < len(lines) else 1
        corners = _corners(element, file, line, reading)
        name = (element.findtext("name") or "").strip()
        if corners is None:
            continue
        if not name:
            reading.problem(
                "empty-label",
                "the object has no name",
                origin=f"{file}:{line}",
                remedy="name it",
                fix="drops it",
            )
            continue
        flags = (_flag(element, "difficult"), _flag(element, "truncated"))
        page.objects.append(Written(name, corners, *flags, line))
    return page


def _corners(
    element: ET.Element, file: Path, line: int, reading: Reading
) -> tuple[float, float, float, float] | None:
    texts = [element.findtext(f"bndbox/{c}") for c in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(t or "none") for t in texts)
        finite = abs(x1) + abs(y1) + abs(x2) + abs(y2) < 1e9
    except ValueError:
        finite = False
    if not finite:
        reading.problem(
            "bad-box",
            f"a bndbox takes xmin, ymin, xmax and ymax, not {texts}",
            origin=f"{file}:{line}",
            path=file,
            remedy="correct or drop the object",
            fix="drops it",
        )
        return None
    if x2 < x1 or y2 < y1:
        reading.problem(
            "box-inside-out",
            f"the box {[x1, y1, x2, y2]} ends before it begins",
            origin=f"{file}:{line}",
            path=file,
            remedy="correct its corners",
            fix="swaps its corners",
        )
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _flag(element: ET.Element, name: str) -> bool:
    return (element.findtext(name) or "0").strip() in ("1", "true", "True")


def _other_names(pages: list[Page], reading: Reading) -> None:
    """One note on files whose <filename> is that of another photograph."""
    other = [p for p in pages if p.says_name and Path(p.says_name.replace("\\", "/")).stem != p.path.stem]
    if other and reading.lenient:
        reading.problem(
            "other-filename",
            f"{len(other)} of {len(pages)} XML files name another photograph in <filename>,"
            f" {other[0].says_name!r} here",
            origin=str(other[0].path),
            remedy="nothing need be done: photographs are found by the name of the XML file",
            severity=Severity.NOTE,
            fix="writes the right name",
        )


def _first_pixel(pages: list[Page], reading: Reading) -> float:
    """What to take from the near corner: VOC counts pixels from 1, far corner included; many tools from 0."""
    if pages and all(p.says_first_pixel for p in pages):
        return 1.0
    if any(min(o.corners[:2]) == 0 for p in pages for o in p.objects):
        reading.note("its boxes count pixels from 0, not from 1 as Pascal VOC does, and were read so")
        return 0.0
    return 1.0


def _drawn(
    path: Path,
    years: list[Path],
    pages: list[tuple[Path, Page]],
    labels: Mapping[str, int],
    shift: float,
    reading: Reading,
) -> tuple[list[Drawn], dict[Path, Path], list[tuple[str, str]]]:
    """(photographs with their boxes, the painted mask of those that have one, absent photographs)."""
    drawn: list[Drawn] = []
    painted: dict[Path, Path] = {}
    missing: list[tuple[str, str]] = []
    for year in years:
        folder = reading.images or (year / "JPEGImages" if (year / "JPEGImages").is_dir() else year)
        shelf = Shelf(folder)
        splits = _splits(year, reading)
        masks = {f.stem: f for f in sorted((year / "SegmentationObject").glob("*.png"))}
        seen: set[str] = set()
        for _, page in (p for p in pages if p[0] == year):
            stem = page.path.stem
            photograph = _photograph(page, shelf)
            seen |= {stem} if photograph is None else {stem, photograph.stem}  # they may differ in case
            if photograph is None:
                if reading.missing != "keep" or reading.lenient:
                    missing.append((stem, str(page.path)))
                    continue
                photograph = folder / f"{stem}.jpg"
            one = Drawn(
                id=sample_id(photograph, path),
                path=photograph,
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
            if splits and stem not in splits and reading.lenient:
                reading.problem(
                    "photograph-not-listed",
                    "it has an XML file, and no list of ImageSets names it, as they name others",
                    origin=str(page.path),
                    path=photograph,
                    remedy="list it, or divide the set anew: blemish data split",
                    severity=Severity.WARNING,
                    fix=DROPS_PHOTOGRAPH,
                )
            drawn.append(one)
            if stem in masks:
                painted[photograph] = masks[stem]
        _unlabelled(year, shelf, splits, seen, reading)
        _of_one_stem(shelf, seen, {d.path for d in drawn}, reading)
    return drawn, painted, missing


def _photograph(page: Page, shelf: Shelf) -> Path | None:
    """The photograph of the page's stem; of several, the one that it names.

    <filename> is wrong too often to be asked for more.
    """
    found = shelf.by_stem(page.path.stem)
    name = page.says_name
    if found is None or name == found.name or Path(name).name != name or Path(name).stem != found.stem:
        return found
    named = found.with_name(name)
    return named if is_image_name(name) and named.is_file() else found


def _of_one_stem(shelf: Shelf, seen: set[str], taken: set[Path], reading: Reading) -> None:
    """Photographs that share their stem with one that an XML file is for: nothing says what is in them."""
    if not reading.lenient:
        return
    own = [p for p in shelf.files.values() if not any("Segmentation" in part for part in p.parts[-3:-1])]
    for photograph in own:
        if photograph.stem in seen and photograph not in taken:
            reading.problem(
                "photograph-without-label",
                "its XML file is for another photograph of the same name",
                path=photograph,
                remedy="give it a name and an XML file of its own, or take it away",
                severity=Severity.WARNING,
                fix="leaves it out",
            )


def _splits(year: Path, reading: Reading) -> dict[str, str]:
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
                                reading.in_two_splits(stem, first, split, origin=str(file))
                        out[stem] = split
    if not out:
        own = split_named(year.name)
        return {f.stem: own for f in _xml_files(year)} if own else {}
    return out


def _unlabelled(
    year: Path, shelf: Shelf, splits: Mapping[str, str], seen: set[str], reading: Reading
) -> None:
    """Photographs that a list or the folder names and no XML file."""
    stems = {Path(f).stem: p for f, p in shelf.files.items() if "Segmentation" not in f}
    absent = sorted(s for s in splits if s not in seen and s not in stems)
    bare = sorted(s for s in {*splits, *stems} if s not in seen and s in stems)
    for stem in absent:
        reading.problem(
            "missing-photograph",
            f"ImageSets lists {stem!r}, and there is neither a photograph nor an XML file of it",
            origin=str(year / "ImageSets"),
            remedy="drop the line or restore both",
            severity=Severity.WARNING,
            fix="drops the line",
        )
    for stem in bare:
        reading.problem(
            "photograph-without-label",
            "there is no XML file for the photograph",
            path=stems[stem],
            remedy="label it, or write an XML file without objects",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    if absent:
        reading.note(
            f"{len(absent)} stems of ImageSets have neither photograph nor XML file, such as {absent[0]!r}"
        )
    if bare:
        reading.note(f"{len(bare)} photographs have no XML file and were left out, such as {bare[0]!r}")


def _with_masks(drawn: list[Drawn], painted: Mapping[Path, Path], reading: Reading) -> list[Drawn]:
    """The photographs whose objects are painted, with a mask for each: object k has the value k from 1."""
    kept = [d for d in drawn if d.path in painted or not len(d)]
    if len(kept) < len(drawn):
        reading.note(f"{len(drawn) - len(kept)} photographs without painted masks were left out")
    for one in kept:
        if one.path in painted:
            size_hw = one.stated_hw or (0, 0)
            one.regions = [PaintedMask(size_hw, painted[one.path], k + 1) for k in range(len(one))]
    return kept
