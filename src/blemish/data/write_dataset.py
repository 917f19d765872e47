"""Write a data set in any format, and say exactly what the format could not hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from blemish.data.formats import WritableFormat, formats_by_rank, get_format
from blemish.data.image_headers import read_all_header_info
from blemish.data.write_context import ConversionLoss, WriteContext
from blemish.errors import BadInput, BlemishError, StorageFull, UnknownName
from blemish.structures import Dataset

# Windows takes them for devices, with any ending; a set that is written here is often read there.


@dataclass(frozen=True)
class WrittenDataset:
    """A data set that was written.

    Attributes:
        root: where.
        format: in which.
        images: how many.
        losses: what the format could not hold.
        damaged: ids of images whose files are broken, and were copied as they are.
    """

    root: Path
    format: str
    images: int
    losses: tuple[ConversionLoss, ...]
    damaged: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "root": self.root.as_posix(),
            "format": self.format,
            "images": self.images,
            "losses": [{"what": x.what, "samples": list(x.samples)} for x in self.losses],
            "damaged": list(self.damaged),
        }


def write_dataset(
    dataset: Dataset,
    root: Path | str,
    format: str,  # noqa: A002 - the word people type
    *,
    link: bool = False,
    suffixes: Mapping[str, str] | None = None,
) -> WrittenDataset:
    """Write images and labels as a data set of `format`.

    Args:
        dataset: what to write.
        root: a folder that is not there yet, or empty.
        format: `folders`, `csv`, `coco`, `voc` or `yolo`.
        link: hard links to the images where possible; else copies.
        suffixes: the right file ending of images that have a wrong one, by sample id.

    Raises:
        UnknownName: no format of that name can be written.
        WrongTask: the format cannot hold what the set is about.
        BadInput: the folder is not empty or lies inside the set's own, or a name cannot be written.
        StorageFull: the disk is full or read-only.
    """
    root = Path(root)
    chosen = get_format(format)
    if not chosen.is_writable:
        raise UnknownName("format to write", format, [f.name for f in formats_by_rank() if f.is_writable])
    check_output(root, (dataset.root,))
    damaged = _damaged(dataset)
    writing = WriteContext(link, suffixes or {})
    was_there = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        cast("WritableFormat", chosen.implementation).write(dataset, root, writing)
    except BlemishError:
        _take_back(root, was_there=was_there)
        raise
    except UnicodeEncodeError as error:
        _take_back(root, was_there=was_there)
        raise BadInput(
            f"{dataset.root}: the name {error.object!r} cannot be written as text; rename what it names"
        ) from error
    except OSError as error:
        if isinstance(error, StorageFull):
            raise
        where = error.filename2 or error.filename or root
        raise StorageFull(
            f"{where} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
    losses = tuple(ConversionLoss(what, tuple(ids)) for what, ids in writing.lost.items())
    return WrittenDataset(root, chosen.name, len(dataset), losses, damaged)


def check_output(root: Path, sources: Iterable[Path | None]) -> None:
    """Refuse a folder to write to that holds something, or that would become part of what is read.

    Args:
        root: the folder.
        sources: what is read: folders, or files of labels, which stand for the folders they lie in.

    Raises:
        BadInput: it exists and is not empty, or lies inside a source.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BadInput(f"{root}: it exists and is not empty; choose another folder to write to")
    target = root.resolve()
    there = [p for p in (target, *target.parents) if p.exists()]
    for source in sources:
        folder = source.parent if source is not None and source.is_file() else source
        # Asked of the files themselves, since names may differ in case or lead through links.
        if folder is not None and folder.exists() and any(p.samefile(folder) for p in there):
            raise BadInput(
                f"{root}: it lies inside {folder}, whose images and labels are read, and the copy would"
                " count among them the next time; choose a folder outside to write to"
            )


def _damaged(dataset: Dataset) -> tuple[str, ...]:
    """The ids of images that are there and that a look at their files shows to be broken."""
    samples = [s for s in dataset.samples if s.path.exists()]
    infos = read_all_header_info([s.path for s in samples])
    return tuple(sample.id for sample, info in zip(samples, infos, strict=True) if info.is_damaged)


def _take_back(root: Path, *, was_there: bool) -> None:
    """Empty a folder that was empty before, so that the next try is not refused for what this one left."""
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not was_there:
        root.rmdir()


def format_to_write(dataset: Dataset) -> str:
    """The set's own format where it can be written, else one that can hold its task."""
    if get_format(dataset.format).is_writable:
        return dataset.format
    return "csv" if dataset.task.is_image_level else "coco"
