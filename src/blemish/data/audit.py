"""Run the checks on a data set, before anything is trained on it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.data.check_context import CheckContext
from blemish.data.checks import CHECKS, Check, select_checks
from blemish.data.checks.reader_faults import UNCLAIMED
from blemish.data.findings import Finding, Findings, Severity
from blemish.data.formats import get_format
from blemish.data.header_info import HeaderInfo
from blemish.data.image_hashes import map_in_parallel
from blemish.data.image_headers import read_all_header_info
from blemish.data.image_index import ImageIndex, files_below
from blemish.data.load_dataset import read_dataset, to_task
from blemish.data.read_context import CROWD_VALUES, ReadContext
from blemish.data.tables.cell_values import UNCERTAIN
from blemish.data.tables.columns import ORDERS
from blemish.data.user_cache import cache_folder, load_json, save_json, short_digest
from blemish.errors import BadDataset, BadImage, BadInput, BlemishError, UnknownName
from blemish.imaging import LIMITS, Limits, open_image
from blemish.registry import load_plugins
from blemish.structures import Dataset, Labels, Sample, Task

WITHOUT_LABELS = ("bad-dataset.no-labels", "bad-dataset.unknown-format")
BUILTIN_VERSION = 14  # increase it when a built-in check changes, so that cached findings are discarded


@dataclass(frozen=True)
class Audit:
    """The result of checks, with the data set that they ran on.

    Attributes:
        findings: everything found.
        dataset: the data set without what cannot be used, or None if it cannot be read.
    """

    findings: Findings
    dataset: Dataset | None


def check(
    data: Dataset | Path | str,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    delimiter: str | None = None,
    box_order: str | None = None,
    uncertain: str = "error",
    crowd: str = "ignore",
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    duplicates: bool = True,
    thorough: bool = False,
    limits: Limits = LIMITS,
) -> Findings:
    """Run the registered checks on a data set.

    Headers are read first and in parallel; images are decoded only if a selected check needs it. The findings
    are cached in the user's cache folder until a file of the data set, the selection or a check changes.

    Args:
        data: a path, or an open data set.
        format: see `open_dataset`.
        images: see `open_dataset`.
        task: see `open_dataset`.
        columns: see `open_dataset`.
        delimiter: see `open_dataset`.
        box_order: see `open_dataset`.
        uncertain: see `open_dataset`.
        crowd: see `open_dataset`.
        only: ids or glob patterns of the checks to run, such as "images.*"; default: all.
        skip: ids or glob patterns of the checks to leave out.
        duplicates: whether to decode every image, which finds copies, and damage after the header.
        thorough: whether to follow the entropy-coded data of every JPEG, which finds damage that decoders
            hide.
        limits: the largest size of an image, in bytes and pixels, that is accepted.

    Raises:
        UnknownName: a check, task, format or box order that does not exist.

    Example:
        >>> check("nowhere").errors[0].message
        'no such file or folder'
    """
    checks = select_checks(only, skip)
    if isinstance(data, Dataset):
        return audit(data, checks=checks, duplicates=duplicates, thorough=thorough, limits=limits).findings
    context = lenient_context(images, task, columns, delimiter, box_order, uncertain, crowd)
    key = _cache_key(Path(data), context.images, checks, (format, context, duplicates, thorough, limits))
    cached = load_json(f"check-{key}.json") if key else None
    if isinstance(cached, dict):
        return Findings.from_dict(cached)
    result = audit(
        data,
        format=format,
        context=context,
        checks=checks,
        duplicates=duplicates,
        thorough=thorough,
        limits=limits,
    )
    # The key does not cover files in other places that labels or data.yaml refer to.
    if key and result.dataset is not None and _is_inside(result.dataset, (Path(data), context.images)):
        save_json(f"check-{key}.json", result.findings.to_dict())
    return result.findings


def lenient_context(
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    delimiter: str | None = None,
    box_order: str | None = None,
    uncertain: str = "error",
    crowd: str = "ignore",
) -> ReadContext:
    """Return a context that collects faults instead of raising the first; see `open_dataset` for the options.

    Raises:
        UnknownName: a task or box order that does not exist, which is not a fault of the data set.
    """
    if box_order is not None and box_order not in ORDERS:
        raise UnknownName("box order", box_order, ORDERS)
    if uncertain not in UNCERTAIN:
        raise UnknownName("value of uncertain", uncertain, UNCERTAIN)
    if crowd not in CROWD_VALUES:
        raise UnknownName("value of crowd", crowd, CROWD_VALUES)
    return ReadContext(
        images=None if images is None else Path(images),
        task=to_task(task),
        columns=columns or {},
        delimiter=delimiter,
        box_order=box_order,
        uncertain=uncertain,
        crowd=crowd,
        lenient=True,
    )


def audit(
    data: Dataset | Path | str,
    *,
    format: str | None = None,  # noqa: A002
    context: ReadContext | None = None,
    checks: Sequence[Check] | None = None,
    duplicates: bool = True,
    thorough: bool = False,
    limits: Limits = LIMITS,
) -> Audit:
    """Run checks on a data set, without a cache, and return what could be read of it with the findings.

    Args:
        data: a path, or an open data set.
        format: see `open_dataset`.
        context: a lenient context.
        checks: the checks to run; default: all.
        duplicates: see `check`.
        thorough: see `check`.
        limits: see `check`.
    """
    checks = select_checks() if checks is None else checks
    context = context or lenient_context()
    if isinstance(data, Dataset):
        dataset = data
    else:
        try:
            dataset = read_dataset(data, format, context)
        except UnknownName:
            raise  # an option is wrong, not the data set
        except BadInput as error:
            finding = _unreadable_set(error, Path(data))
            about_images = (
                _image_findings(Path(data), context, checks, limits)
                if (error.code in WITHOUT_LABELS and duplicates)
                else ()
            )
            return Audit(Findings((*_claimed(context.findings, checks), finding, *about_images)), None)
    search = not isinstance(data, Dataset) and not get_format(dataset.format).reports_unlabeled_images
    check_context = CheckContext(
        dataset,
        headers=_headers(dataset, context.headers, limits),
        read_findings=tuple(context.findings),
        annotations=tuple(context.annotations),
        image_folder=(context.images or dataset.root) if search else None,
        decode=duplicates,
        thorough=thorough,
        limits=limits,
    )
    findings = [*_claimed(context.findings, checks), *run_checks(dataset, check_context, checks)]
    return Audit(Findings(tuple(findings), len(dataset.samples), dataset.notes), dataset)


def run_checks(dataset: Dataset, context: CheckContext, checks: Iterable[Check]) -> Iterator[Finding]:
    """Yield the findings of some checks, each with the id of its check.

    A third-party check that fails becomes a finding of its own, and the other checks still run.
    """
    for entry in checks:
        try:
            for finding in entry.run(dataset, context):
                yield replace(finding, check=entry.id)
        except BlemishError:
            raise
        except Exception as error:
            if _is_builtin(entry):
                raise
            yield Finding(
                "failed-check",
                Severity.ERROR,
                f"the check {entry.id!r} of {entry.run.__module__} failed ({type(error).__name__}: {error})",
                remedy=f"leave it out with --skip {entry.id}, or report it to the authors of the package",
                check=entry.id,
            )


def unreadable(samples: Iterable[Sample | Path], *, limits: Limits = LIMITS) -> list[BadImage]:
    """Decode images and return the errors of those that cannot be decoded.

    Args:
        samples: samples or paths of images.
        limits: the largest size of an image, in bytes and pixels, that is accepted.
    """

    def decode(path: Path) -> BadImage | None:
        try:
            open_image(path, limits)
        except BadImage as error:
            return error
        return None

    errors = map_in_parallel(decode, [s.path if isinstance(s, Sample) else s for s in samples])
    return [error for error in errors if error is not None]


def _image_findings(
    path: Path, context: ReadContext, checks: Sequence[Check], limits: Limits
) -> Iterator[Finding]:
    """Yield the findings about the images of a folder that has no labels."""
    folder = context.images or path
    if not folder.is_dir():
        return
    selected = [c for c in checks if c.id.startswith("images.") and c.id != "images.unlabeled"]
    samples = [Sample(id=name, path=image) for name, image in ImageIndex(folder).files.items()]
    dataset = Dataset(
        task=Task.CLASSIFICATION, labels=Labels(()), samples=tuple(samples), root=folder, format="folders"
    )
    headers = _headers(dataset, {}, limits)
    yield from run_checks(dataset, CheckContext(dataset, headers=headers, limits=limits), selected)


def _claimed(findings: Iterable[Finding], checks: Iterable[Check]) -> Iterator[Finding]:
    """Yield the reader's findings that belong to the selected checks, each with the id of its check."""
    owners: dict[str, str] = {}
    for check_id, entry in CHECKS.items():
        for code in entry.codes:
            owners.setdefault(code, check_id)
    selected = {entry.id for entry in checks}
    for finding in findings:
        owner = owners.get(finding.code, UNCLAIMED)
        if owner in selected:
            yield replace(finding, check=owner)


def _headers(dataset: Dataset, known: Mapping[Path, HeaderInfo], limits: Limits) -> dict[Path, HeaderInfo]:
    """The header info of every image; the reader has read some of them, with the default limits."""
    headers = dict(known) if limits == LIMITS else {}
    paths = [s.path for s in dataset.samples if s.path not in headers]
    headers.update(zip(paths, read_all_header_info(paths, limits=limits), strict=True))
    return headers


def _unreadable_set(error: BadInput, path: Path) -> Finding:
    if isinstance(error, BadDataset) and error.where:
        origin = "" if error.where == str(path) else error.where
        return Finding("unreadable-set", Severity.ERROR, error.detail, path, origin, error.remedy)
    return Finding("unreadable-set", Severity.ERROR, str(error))


def _is_inside(dataset: Dataset, roots: Iterable[Path | None]) -> bool:
    """Whether every image and every label file is below one of the folders."""
    prefixes = tuple(os.path.join(os.path.abspath(r), "") for r in roots if r is not None)  # noqa: PTH100, PTH118
    return all(
        os.path.abspath(place).startswith(prefixes)  # noqa: PTH100 - as text, since there are many images
        for s in dataset.samples
        for place in (s.path, s.origin)
        if place
    )


def _is_builtin(entry: Check) -> bool:
    return entry.run.__module__.partition(".")[0] == "blemish"


def _cache_key(path: Path, images: Path | None, checks: Iterable[Check], options: object) -> str:
    """Return a digest of the files, the checks and the options, or "" if nothing is to be cached.

    A file counts with its path, size and time of modification, and so does the source file of a third-party
    check.
    """
    if not path.is_dir() or cache_folder() is None:
        return ""
    facts: list[object] = [BUILTIN_VERSION, path.absolute(), options, load_plugins("checks")]
    for entry in checks:
        facts.append(entry.id)
        if not _is_builtin(entry):
            try:
                source = inspect.getsourcefile(inspect.unwrap(entry.run))
                status = os.stat(source or "")  # noqa: PTH116
            except (OSError, TypeError):
                return ""  # a change of such a check would go unnoticed
            facts += [source, status.st_size, status.st_mtime_ns]
    lines: list[str] = []
    for root in (path, images):
        for _, entry_on_disk in files_below(root, hidden=True) if root is not None else ():
            try:
                status = entry_on_disk.stat()
            except OSError:
                return ""
            lines.append(f"{entry_on_disk.path}\0{status.st_size}\0{status.st_mtime_ns}")
    return short_digest(*facts, "\n".join(sorted(lines)))
