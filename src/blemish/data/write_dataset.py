"""Write a data set in any writable format, and report what the format cannot represent."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from blemish.arrays import FloatArray
from blemish.data.formats import Format, WritableFormat, formats_by_rank, get_format
from blemish.data.image_headers import read_all_header_info
from blemish.data.write_context import ConversionLoss, WriteContext
from blemish.errors import BadInput, BlemishError, StorageFull, UnknownName
from blemish.structures import Dataset


@dataclass(frozen=True)
class WrittenDataset:
    """The result of writing a data set.

    Attributes:
        root: the folder.
        format: name of the format.
        images: number of images.
        losses: what the format cannot represent.
        damaged: ids of images whose files are damaged; they were copied unchanged.
    """

    root: Path
    format: str
    images: int
    losses: tuple[ConversionLoss, ...]
    damaged: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values that JSON can represent."""
        return {
            "root": self.root.as_posix(),
            "format": self.format,
            "images": self.images,
            "losses": [{"code": x.code, "what": x.what, "samples": list(x.samples)} for x in self.losses],
            "damaged": list(self.damaged),
        }


def get_writable_format(name: str) -> Format:
    """Return the format of this name, which can be written.

    Raises:
        UnknownName: there is none.
    """
    writable = [f.name for f in formats_by_rank() if f.is_writable]
    if name not in writable:
        raise UnknownName("writable format", name, writable)
    return get_format(name)


def write_dataset(
    dataset: Dataset,
    root: Path | str,
    format: str,  # noqa: A002 - the option's name
    *,
    link: bool = False,
    suffixes: Mapping[str, str] | None = None,
    scores: Mapping[str, FloatArray] | None = None,
    model: str = "",
    sources: Iterable[Path | None] | None = None,
) -> WrittenDataset:
    """Write images and labels in another format.

    Args:
        dataset: the data set to write.
        root: a folder that does not exist, or is empty.
        format: name of a writable format, such as "coco".
        link: whether to make hard links to the images instead of copies, if the disk allows it.
        suffixes: the right file extension of images that have a wrong one, by sample id.
        scores: of predictions that are written as labels, (n,) float64 in [0, 1] by sample id.
        model: name of the model that predicted them.
        sources: the folders that are read, which must not contain `root`. Default: that of the data set.

    Raises:
        UnknownName: no writable format has this name.
        WrongTask: the format cannot represent the annotations of the data set's task.
        BadInput: the folder is not empty or is inside the data set, or a name cannot be written.
        StorageFull: the disk is full or read-only.
    """
    root = Path(root)
    chosen = get_writable_format(format)
    check_output(root, (dataset.root,) if sources is None else sources)
    damaged = _damaged_images(dataset)
    context = WriteContext(link, suffixes or {}, scores or {}, model)
    existed = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        cast("WritableFormat", chosen.implementation).write(dataset, root, context)
    except BlemishError:
        _remove_content(root, existed=existed)
        raise
    except UnicodeEncodeError as error:
        _remove_content(root, existed=existed)
        raise BadInput(
            f"{dataset.root}: the name {error.object!r} cannot be written as UTF-8; rename the image,"
            " label or group",
            reason="encoding",
        ) from error
    except OSError as error:
        if isinstance(error, StorageFull):
            raise
        where = error.filename2 or error.filename or root
        raise StorageFull(
            f"{where}: cannot be written ({error.strerror}); free some space or choose another folder"
        ) from error
    losses = tuple(ConversionLoss(code, what, tuple(ids)) for (code, what), ids in context.lost.items())
    return WrittenDataset(root, chosen.name, len(dataset), losses, damaged)


def check_output(root: Path, sources: Iterable[Path | None]) -> None:
    """Refuse an output folder that is not empty, or that would become part of the data that is read.

    Args:
        root: the output folder.
        sources: the folders that are read, or label files in them.

    Raises:
        BadInput: the output folder is a file, is not empty, or is inside a source.
    """
    if root.is_file():
        raise BadInput(
            f"{root}: expected a folder to write to, got a file; choose another one",
            reason="output-is-a-file",
        )
    if root.exists() and any(root.iterdir()):
        raise BadInput(
            f"{root}: the output folder is not empty; choose another one", reason="output-not-empty"
        )
    target = root.resolve()
    existing = [p for p in (target, *target.parents) if p.exists()]
    for source in sources:
        folder = source.parent if source is not None and source.is_file() else source
        # The files themselves are compared, because names may differ in case or lead through links.
        if folder is not None and folder.exists() and any(p.samefile(folder) for p in existing):
            raise BadInput(
                f"{root}: the output folder is inside {folder}, from which images and labels are read, so"
                " the copy would be read the next time; choose a folder outside it",
                reason="output-inside-source",
            )


def _damaged_images(dataset: Dataset) -> tuple[str, ...]:
    """The ids of images that exist and whose headers show damage."""
    samples = [s for s in dataset.samples if s.path.exists()]
    infos = read_all_header_info([s.path for s in samples])
    return tuple(sample.id for sample, info in zip(samples, infos, strict=True) if info.is_damaged)


def _remove_content(root: Path, *, existed: bool) -> None:
    """Empty a folder that was empty before, so that the next attempt is not refused."""
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not existed:
        root.rmdir()


def format_to_write(dataset: Dataset) -> str:
    """Return the data set's own format if it is writable, else the default of its task."""
    if get_format(dataset.format).is_writable:
        return dataset.format
    return dataset.task.fields.default_format
