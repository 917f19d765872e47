"""What is wrong with a data set, before anything is trained on it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.data.checks.copies import check_copies, check_groups, check_listed_twice
from blemish.data.checks.images import check_images
from blemish.data.checks.label_names import check_counts, check_names
from blemish.data.duplicates import LEAST_SIMILARITY, find_copies, signatures
from blemish.data.findings import Finding, Findings, Severity
from blemish.data.image_hashes import in_parallel
from blemish.data.image_headers import read_all_header_info
from blemish.data.image_index import ImageIndex, files_below
from blemish.data.jpeg_integrity import stream_damage
from blemish.data.load_dataset import named_task, read_dataset
from blemish.data.read_context import ReadContext
from blemish.data.tables.columns import ORDERS
from blemish.data.user_cache import cache_folder, load_json, save_json, short_digest
from blemish.errors import BadDataset, BadImage, BadInput, ImageTruncated, UnknownName
from blemish.imaging import LIMITS, Limits, open_image
from blemish.structures import Dataset, Sample, Task

PAINTED_FOLDERS = ("SegmentationObject", "SegmentationClass")
RULES = 9  # raise it when a check changes, so that remembered findings are forgotten


@dataclass(frozen=True)
class Audit:
    """A check and what it was made on.

    Attributes:
        findings: everything found.
        dataset: what could be read, with whatever cannot be used left out; None where nothing could.
    """

    findings: Findings
    dataset: Dataset | None


def check(
    data: Dataset | Path | str,
    *,
    format: str | None = None,  # noqa: A002 - the word people type
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    delimiter: str | None = None,
    box_order: str | None = None,
    duplicates: bool = True,
    thorough: bool = False,
    limits: Limits = LIMITS,
) -> Findings:
    """Everything that is wrong with a data set, or worth knowing.

    Headers are read first and in parallel; images are decoded only to look for copies. What was found
    is remembered as long as no file changes.

    Args:
        data: a path, or a data set that was opened already.
        format: see `open_dataset`.
        images: likewise.
        task: likewise.
        columns: likewise.
        delimiter: likewise.
        box_order: likewise.
        duplicates: whether to decode every image, which finds copies and damage behind the header.
        thorough: whether to follow the codes of every JPEG too, which finds damage that decoders hide.
        limits: what counts as oversized.

    Example:
        >>> check("nowhere").errors[0].message
        'no such file or folder; check the path'
    """
    if isinstance(data, Dataset):
        return audit(data, duplicates=duplicates, thorough=thorough, limits=limits).findings
    reading = lenient_reading(images, task, columns, delimiter, box_order)
    # A set in a folder is remembered by the stamps of all its files.
    key = _stamp(Path(data), format, reading, (duplicates, thorough, limits))
    known = load_json(f"check-{key}.json") if key else None
    if isinstance(known, dict):
        return Findings.from_dict(known)
    made = audit(
        data, format=format, reading=reading, duplicates=duplicates, thorough=thorough, limits=limits
    )
    # What lies elsewhere, where labels or data.yaml point, is not in the stamp.
    if key and made.dataset is not None and _all_inside(made.dataset, (Path(data), reading.images)):
        save_json(f"check-{key}.json", made.findings.to_dict())
    return made.findings


def lenient_reading(
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    delimiter: str | None = None,
    box_order: str | None = None,
) -> ReadContext:
    """A reading that collects problems instead of raising the first.

    Raises:
        UnknownName: no task or order of a box of that name, which is no fault of the set.
    """
    if box_order is not None and box_order not in ORDERS:
        raise UnknownName("box order", box_order, ORDERS)
    return ReadContext(
        images=None if images is None else Path(images),
        task=named_task(task),
        columns=columns or {},
        delimiter=delimiter,
        box_order=box_order,
        minimum_labels=0,
        lenient=True,
    )


def audit(
    data: Dataset | Path | str,
    *,
    format: str | None = None,  # noqa: A002
    reading: ReadContext | None = None,
    duplicates: bool = True,
    thorough: bool = False,
    limits: Limits = LIMITS,
) -> Audit:
    """As `check`, with what could be read of the data set."""
    reading = reading or lenient_reading()
    if isinstance(data, Dataset):
        dataset = data
    else:
        try:
            dataset = read_dataset(data, format, reading)
        except BadInput as error:
            broken = _unreadable_set(error, Path(data))
            return Audit(Findings((*reading.findings, broken)), None)
    found = list(reading.findings)
    paths = [s.path for s in dataset.samples]
    spare = [] if isinstance(data, Dataset) else _unlisted(dataset, reading, paths)
    fresh = [p for p in paths if p not in reading.looks or limits != LIMITS]
    reading.looks.update(zip(fresh, read_all_header_info(fresh, limits=limits), strict=True))
    looks = [reading.looks[p] for p in paths]
    found += check_images(paths, looks)
    found += spare
    found += check_names(dataset)
    found += check_counts(dataset)
    found += check_groups(dataset)
    found += check_listed_twice(dataset.samples)
    usable = [s for s, k in zip(dataset.samples, looks, strict=True) if not k.is_damaged]
    if duplicates:
        prints = signatures([s.path for s in usable], limits=limits)
        found += [_undecodable(e) for e in prints.errors.values()]
        found += check_copies(usable, find_copies(prints, LEAST_SIMILARITY))
        usable = [s for s, opened in zip(usable, prints.opened.tolist(), strict=True) if opened]
    if thorough:
        found += _hidden_damage([s.path for s in usable])
    return Audit(Findings(tuple(found), len(paths), dataset.notes), dataset)


def unreadable(samples: Iterable[Sample | Path], *, limits: Limits = LIMITS) -> list[BadImage]:
    """The images that cannot be opened, with path and reason; every one is decoded to find out."""

    def one(path: Path) -> BadImage | None:
        try:
            open_image(path, limits)
        except BadImage as error:
            return error
        return None

    found = in_parallel(one, [s.path if isinstance(s, Sample) else s for s in samples])
    return [f for f in found if f is not None]


def _unreadable_set(error: BadInput, path: Path) -> Finding:
    if isinstance(error, BadDataset) and error.where:
        return Finding("unreadable-set", Severity.ERROR, error.detail, path, error.where, error.remedy)
    return Finding("unreadable-set", Severity.ERROR, str(error))


def _undecodable(error: BadImage) -> Finding:
    code = "truncated-image" if isinstance(error, ImageTruncated) else "damaged-image"
    return Finding(code, Severity.ERROR, error.detail, error.path, remedy=error.remedy, fix="leaves it out")


def _hidden_damage(paths: Iterable[Path]) -> Iterator[Finding]:
    for path in dict.fromkeys(paths):
        damage = stream_damage(path.read_bytes())
        if damage:
            yield Finding(
                "damaged-image",
                Severity.ERROR,
                f"it opens, and {damage}",
                path,
                remedy="look at it, and copy or download it again",
                fix="leaves it out",
            )


def _unlisted(dataset: Dataset, reading: ReadContext, paths: Sequence[Path]) -> list[Finding]:
    """Images that lie in the set's folder and that no label names."""
    told = {os.fspath(f.path) for f in reading.findings if f.path is not None}
    listed = {os.fspath(p) for p in paths} | told
    root = reading.images or dataset.root
    if dataset.format in ("folders", "voc") or not root.is_dir():
        return []  # their readers say so themselves
    painted = tuple(f"{os.sep}{folder}{os.sep}" for folder in PAINTED_FOLDERS)
    spare = sorted(
        t for t in ImageIndex(root).texts() if t not in listed and not any(p in t for p in painted)
    )
    return [
        Finding(
            "image-without-label",
            Severity.WARNING,
            "no label names it",
            Path(image),
            remedy="label it or take it away",
            fix="leaves it out",
        )
        for image in spare
    ]


def _all_inside(dataset: Dataset, roots: Iterable[Path | None]) -> bool:
    """Whether every image, and every file that labels one, lies below one of the folders."""
    above = tuple(os.path.join(os.path.abspath(r), "") for r in roots if r is not None)  # noqa: PTH100, PTH118
    return all(
        os.path.abspath(place).startswith(above)  # noqa: PTH100 - as text, asked for every image
        for s in dataset.samples
        for place in (s.path, s.origin)
        if place
    )


def _stamp(
    path: Path,
    format: str | None,  # noqa: A002
    reading: ReadContext,
    options: object,
) -> str:
    """A digest of every file's path, size and time of change and of what was asked; "" for nothing kept."""
    if not path.is_dir() or cache_folder() is None:
        return ""
    asked = (RULES, path.absolute(), format, reading, options)  # before anything was read
    lines: list[str] = []
    for root in (path, reading.images):
        for _, entry in files_below(root, hidden=True) if root is not None else ():
            try:
                status = entry.stat()
            except OSError:
                return ""
            lines.append(f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}")
    lines.sort()
    return short_digest(*asked, "\n".join(lines))
