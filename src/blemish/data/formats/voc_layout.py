"""The folders of a VOC data set: annotations, images and splits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blemish.data.image_index import files_below, is_image_name
from blemish.data.split_names import split_named

YEARS = ("VOC2007", "VOC2012")
ANNOTATION_FOLDERS = ("annotations", "annotation", "xmls", "xml", "labels")
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")
MAX_FILES_TO_RECOGNIZE = 20
ROOT_ELEMENT = re.compile(rb"<annotation[\s>]")
CVAT_ROOT_ELEMENT = b"<annotations"


@dataclass(frozen=True)
class VocFolder:
    """One year of VOCdevkit, one split folder, or the whole data set.

    Attributes:
        path: the folder; lists of ImageSets are in it.
        annotations: the folder with the XML files.
        images: the folder with the images.
    """

    path: Path
    annotations: Path
    images: Path

    def xml_files(self) -> list[Path]:
        """Return the XML files, sorted; those of subfolders only if there are no others."""
        return _xml_files(self.annotations)


def voc_folders(path: Path) -> list[VocFolder]:
    """Return the folders with annotations: this one, those of the years of VOCdevkit, or split folders."""
    whole = _named_folder(path)
    if whole is not None:
        return [whole]
    inside = [path / "VOCdevkit" / y for y in YEARS] + [path / y for y in YEARS]
    years = [found for y in inside if y.is_dir() and (found := _named_folder(y)) is not None]
    if years:
        return years
    below = [found for p in split_folders(path) if (found := _named_folder(p) or _flat_folder(p)) is not None]
    flat = None if below else _flat_folder(path)
    return below if flat is None else [flat]


def split_folders(path: Path) -> list[Path]:
    """Return the folders with the names of splits, sorted."""
    return [p for p in sorted(path.iterdir()) if p.is_dir() and split_named(p.name)]


def xml_stem(file: Path) -> str:
    """Return the stem of the image of an XML file: `a` for `a.xml` and for `a.jpg.xml`.

    Example:
        >>> xml_stem(Path("a.b.xml")), xml_stem(Path("a.jpg.xml"))
        ('a.b', 'a')
    """
    return Path(file.stem).stem if is_image_name(file.stem) else file.stem


def _named_folder(folder: Path) -> VocFolder | None:
    """Return the folder if its XML files are in a folder of their own, such as Annotations."""
    children = {p.name.casefold(): p for p in sorted(folder.iterdir(), reverse=True) if p.is_dir()}
    for name in ANNOTATION_FOLDERS:
        # Of the usual names, a damaged file is recognized too, so that it is reported.
        if name in children and _has_voc(children[name], any_content=children[name].name == "Annotations"):
            images = next((children[n] for n in IMAGE_FOLDERS if n in children), folder)
            return VocFolder(folder, children[name], images)
    return None


def _flat_folder(folder: Path) -> VocFolder | None:
    """Return the folder if its XML files are directly in it."""
    flat = [f for f in folder.iterdir() if f.suffix.casefold() == ".xml"]
    return VocFolder(folder, folder, folder) if flat and _has_voc(folder, any_content=False) else None


def _has_voc(folder: Path, *, any_content: bool) -> bool:
    """Return whether one of the first XML files is of VOC, or any but those of CVAT if `any_content`."""
    for file in islice(_xml_files(folder), MAX_FILES_TO_RECOGNIZE):
        with file.open("rb") as stream:
            head = stream.read(2000).replace(b"\0", b"")  # UTF-16
        if ROOT_ELEMENT.search(head) or (any_content and CVAT_ROOT_ELEMENT not in head):
            return True
    return False


def _xml_files(folder: Path) -> list[Path]:
    found = sorted(
        f for f in folder.iterdir() if f.suffix.casefold() == ".xml" and not f.name.startswith(".")
    )
    if found:
        return found
    names = [prefix + entry.name for prefix, entry in files_below(folder)]
    return [folder / name for name in sorted(names) if name.casefold().endswith(".xml")]
