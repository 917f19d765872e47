"""Find the format of a data set by its files, or describe its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from blemish.data.findings import Severity
from blemish.data.folder_names import is_tool_folder, layout_names
from blemish.data.folder_survey import Survey, survey
from blemish.data.formats import Format, formats_by_rank, get_format
from blemish.data.read_context import ReadContext
from blemish.data.tables.table_files import tables_in
from blemish.data.write_context import name_some
from blemish.errors import BadDataset

MAX_RANK_OF_LABEL_FILES = 59  # formats of higher rank also recognize the files of others
FOLDERS = "folders"  # the format that accepts nearly any folder
MAX_DEPTH_SEARCHED = 3  # number of folders between a path and a data set inside it that an error names
MAX_FOLDERS_SEARCHED = 100


def detect_format(path: Path, context: ReadContext) -> Format:
    """Return the first format, in order of rank, that recognizes the path.

    If label files of a second format are there, they are reported as not read.

    Args:
        path: a file or folder.
        context: receives the finding about a second format.

    Raises:
        BadDataset: no format recognizes the path; the message describes the files. Or a format failed; the
            message names its module.
    """
    if not path.exists():
        raise BadDataset("no such file or folder", where=path, remedy="check the path", reason="no-such-file")
    candidates = formats_by_rank()
    for position, candidate in enumerate(candidates):
        if _recognizes(candidate, path, ambiguous_is_error=True):
            if candidate.name == FOLDERS and _format_of(path) is None:
                _refuse_folder_around_data_sets(path)
            if candidate.rank <= MAX_RANK_OF_LABEL_FILES:
                _report_others(candidate, candidates[position + 1 :], path, context)
                _report_tables(path, context)
            return candidate
    if path.is_dir():
        if context.task is not None and (name := context.task.fields.unlabeled_format):
            found = survey(path)
            if found.images and not found.annotation_files:
                return get_format(name)
        raise _unrecognized_folder(path)
    known = "; ".join(f.description for f in candidates)
    raise BadDataset(f"expected one of: {known}", where=path, reason="unknown-format")


def _recognizes(candidate: Format, path: Path, *, ambiguous_is_error: bool = False) -> bool:
    try:
        return candidate.implementation.recognizes(path)
    except OSError:
        return False
    except BadDataset:  # certainly of this format, and ambiguous
        if ambiguous_is_error:
            raise
        return True
    except Exception as error:  # of a third-party format, mostly
        module = type(candidate.implementation).__module__
        raise BadDataset(
            f"the format {candidate.name!r} of {module} failed when it was asked whether it recognizes the"
            f" path ({type(error).__name__}: {error})",
            where=path,
            remedy="name the format of the data set with --format, or report it to the authors of it",
            reason="failed-format",
        ) from error


def _report_others(chosen: Format, candidates: tuple[Format, ...], path: Path, context: ReadContext) -> None:
    """Report the formats whose label files are also there."""
    others = [f.name for f in candidates if f.rank <= MAX_RANK_OF_LABEL_FILES and _recognizes(f, path)]
    if not others:
        return
    names = " and ".join(others)
    context.note(f"the data set also contains label files in the format {names}, which were not read")
    context.problem(
        "other-format",
        f"it is read as {chosen.name}, and also contains label files in the format {names}",
        path=path,
        remedy=f"choose with --format: {', '.join([chosen.name, *others])}",
        severity=Severity.WARNING,
    )


def _report_tables(path: Path, context: ReadContext) -> None:
    """Name tables beside label files: they may have labels, but most have other facts of the images."""
    if path.is_dir() and (tables := tables_in(path)):
        context.note(f"tables beside the label files were not read: {name_some([t.name for t in tables])}")


def _unrecognized_folder(path: Path) -> BadDataset:
    """Return the error about a folder that no format recognizes."""
    if not any(path.iterdir()):
        return BadDataset(
            "the folder is empty", where=path, remedy="put images and labels in it", reason="empty-folder"
        )
    inside = [name for name, _ in _data_sets_inside(path)]
    if inside:
        return _data_sets_below(path, inside)
    found = survey(path)
    if found.annotation_files:
        return BadDataset(
            f"expected annotations in a known format, got {name_some(found.annotation_files)}:"
            f" {found.sentence()}",
            where=path,
            remedy="name the format with --format, or export the annotations again as COCO",
            reason="unread-annotations",
        )
    if found.images:
        return _images_without_labels(path, found)
    known = "; ".join(f.description for f in formats_by_rank())
    return BadDataset(
        f"expected one of: {known}; got {found.sentence()}", where=path, reason="unknown-format"
    )


def _data_sets_below(path: Path, names: list[str]) -> BadDataset:
    """Return the error about a folder that contains data sets and is none."""
    if len(names) == 1:
        return BadDataset(
            f"the data set is in the folder {names[0]!r}",
            where=path,
            remedy=f"pass the path {path / names[0]}",
            reason="nested-data-set",
        )
    return BadDataset(
        f"expected one data set, got {len(names)}: {name_some([repr(n) for n in names])}",
        where=path,
        remedy="pass the path of one of them, or join them with blemish data merge",
        reason="several-data-sets",
    )


def _refuse_folder_around_data_sets(path: Path) -> None:
    """Raise if folders below are data sets with label files: the folders above them are no labels."""
    inside = [name for name, found in _data_sets_inside(path) if found.name != FOLDERS]
    if inside:
        raise _data_sets_below(path, inside)


def _images_without_labels(path: Path, found: Survey) -> BadDataset:
    return BadDataset(
        f"there are images and no labels: {found.sentence()}",
        where=path,
        remedy="sort the images into one folder per label, or put a table such as labels.csv beside them",
        reason="no-labels",
    )


def _data_sets_inside(root: Path) -> Iterator[tuple[str, Format]]:
    """Yield path below `root` and format of each folder that is a data set, not those inside another."""
    level = [root]
    searched = 0
    for _ in range(MAX_DEPTH_SEARCHED):
        below = [p for folder in level for p in _subfolders(folder)]
        level = []
        for folder in below:
            searched += 1
            if searched > MAX_FOLDERS_SEARCHED:
                return
            found = _format_of(folder)
            if found is None:
                level.append(folder)
            else:
                yield folder.relative_to(root).as_posix(), found


def _format_of(folder: Path) -> Format | None:
    """Return the format of a folder with label files or at least two folders of labels, or None."""
    recognized = next((f for f in formats_by_rank() if _recognizes(f, folder)), None)
    if recognized is None or recognized.name != FOLDERS:
        return recognized
    names = [p.name for child in _subfolders(folder) for p in _subfolders(child)]
    names = names or [p.name for p in _subfolders(folder)]
    return recognized if len(names) > 1 and not layout_names(sorted(set(names))) else None


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not is_tool_folder(p.name))
    except OSError:
        return []
