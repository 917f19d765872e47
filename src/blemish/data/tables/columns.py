"""Which column of a table is what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from blemish.data.image_index import is_image_name
from blemish.data.read_context import ReadContext
from blemish.data.tables.table_reader import Table
from blemish.errors import BadDataset, UnknownName

PATH_NAMES = (
    *("filename", "file_name", "file", "filepath", "file_path", "path", "image", "image_path", "imagepath"),
    *("image_name", "image_file", "img", "img_path", "photo", "image", "picture", "image_id", "id"),
)
LABEL_NAMES = ("label", "class", "category", "target", "label_name", "class_name", "name", "damage", "y")
LABELS_NAMES = ("labels", "classes", "tags", "categories", "defects", "targets")
GROUP_NAMES = ("group", "group_id", "object_id")
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold_name")
BOX_NAMES = {
    "x1": ("xmin", "x_min", "x1", "left", "bbox_x1", "bbox_xmin"),
    "y1": ("ymin", "y_min", "y1", "top", "bbox_y1", "bbox_ymin"),
    "x2": ("xmax", "x_max", "x2", "right", "bbox_x2", "bbox_xmax"),
    "y2": ("ymax", "y_max", "y2", "bottom", "bbox_y2", "bbox_ymax"),
    "x": ("x", "bbox_x", "box_x", "bx"),
    "y": ("y", "bbox_y", "box_y", "by"),
    "w": ("w", "bbox_w", "box_w", "bbox_width", "box_width", "bw"),
    "h": ("h", "bbox_h", "box_h", "bbox_height", "box_height", "bh"),
}
ORDERS = {"xywh": ("x", "y", "w", "h"), "xyhw": ("x", "y", "h", "w"), "xyxy": ("x1", "y1", "x2", "y2")}
YES = frozenset({"1", "true", "yes", "y", "x", "1.0"})
NO = frozenset({"0", "false", "no", "n", "", "0.0"})
FLAGS = YES | NO
ROLES = ("path", "label", "labels", "group", "split", "width", "height", *BOX_NAMES)


@dataclass(frozen=True)
class ColumnRoles:
    """Which column is what, by position.

    Attributes:
        path: the image.
        label: one label's name, or None.
        labels: several labels' names in one cell, or None.
        flags: columns of 0 and 1, one a label.
        blank_means_no: whether an empty cell of these means no: nobody writes 0, only marks what is there.
        tags: further columns that hold a label's name or nothing.
        box: `x`, `y`, `w`, `h` or `x1`, `y1`, `x2`, `y2` to positions; empty for image-level tables.
        size_wh: the columns of the image's width and height, or None.
        group: the object photographed, or None.
        split: train, val or test, or None.
        rest: further columns.
    """

    path: int
    label: int | None = None
    labels: int | None = None
    flags: tuple[int, ...] = ()
    blank_means_no: bool = False
    tags: tuple[int, ...] = ()
    box: dict[str, int] = field(default_factory=dict)
    size_wh: tuple[int, int] | None = None
    group: int | None = None
    split: int | None = None
    rest: tuple[int, ...] = ()


def plain(header: str) -> str:
    """A header without case, spaces and punctuation.

    Example:
        >>> plain(" Image Path ")
        'image_path'
    """
    return re.sub(r"[^0-9a-z]+", "_", header.casefold()).strip("_")


def find_roles(table: Table, context: ReadContext) -> ColumnRoles:
    """What each column is, by option, then by header, then by what stands in it.

    Raises:
        BadDataset: no column of images or of labels, or several that could be.
        UnknownName: an option names a column that is not there.
    """
    names = [plain(h) for h in table.header]
    chosen = {role: _position(table, names, role, column) for role, column in context.columns.items()}
    left = [i for i in range(len(names)) if i not in chosen.values() and not _is_index(table, names, i)]

    def take(role: str, candidates: Iterable[str]) -> int | None:
        if role in chosen:
            return chosen[role]
        for name in candidates:
            for i in left:
                if names[i] == name:
                    left.remove(i)
                    return i
        return None

    path = chosen.get("path")
    path = _path_column(table, names, left) if path is None else path
    if path in left:
        left.remove(path)
    split = take("split", SPLIT_COLUMNS)
    group = take("group", GROUP_NAMES)
    box, size_wh = _box_columns(table, names, left, chosen, context)
    for i in (*box.values(), *(size_wh or ())):
        if i in left:
            left.remove(i)
    if box:
        label = take("label", LABEL_NAMES)
        return ColumnRoles(path, label, box=box, size_wh=size_wh, group=group, split=split, rest=tuple(left))
    flags, tags, label, labels = _label_columns(table, names, left, chosen)
    rest = tuple(i for i in left if i not in (*flags, *tags, label, labels))
    # A table of crosses leaves the rest blank; among zeros a blank is a gap that nobody decided on.
    blank = not any(cell and cell.casefold() in NO for i in flags for cell in table.column(i))
    return ColumnRoles(
        path=path,
        label=label,
        labels=labels,
        flags=flags,
        blank_means_no=blank,
        tags=tags,
        group=group,
        split=split,
        rest=rest,
    )


def _position(table: Table, names: list[str], role: str, column: str | int) -> int:
    if role not in ROLES:
        raise UnknownName("column role", role, ROLES)
    if isinstance(column, int):
        if not -len(names) <= column < len(names):
            raise BadDataset(
                f"{table.path}:1: there is no column {column}, there are {len(names)}; count from 0"
            )
        return column % len(names)
    for i, header in enumerate(table.header):
        if column == header or plain(column) == names[i]:
            return i
    raise UnknownName("column", column, table.header, where=str(table.path))


def _is_index(table: Table, names: list[str], position: int) -> bool:
    """Whether a column only counts the rows, as pandas writes it."""
    if not (names[position] in ("", "index", "id", "no", "nr") or names[position].startswith("unnamed")):
        return False
    cells = table.column(position)
    return all(re.fullmatch(r"\d+(\.0)?", c) for c in cells) and len(set(cells)) == len(cells)


def _path_column(table: Table, names: list[str], left: list[int]) -> int:
    def share(i: int) -> float:
        cells = table.column(i)[:200]
        return sum(is_image_name(c.replace("\\", "/").rsplit("/", 1)[-1]) for c in cells) / len(cells)

    named = [i for name in PATH_NAMES for i in left if names[i] == name]
    full = [i for i in left if share(i) > 0.5]
    for i in (*(n for n in named if n in full), *full, *named):
        return i
    shown = ", ".join(h or "(empty)" for h in table.header)
    raise BadDataset(
        f"{table.path}:1: no column holds images (columns: {shown}); name one filename, or say which"
        f" with"
        " columns={'path': ...}"
    )


def _box_columns(
    table: Table, names: list[str], left: list[int], chosen: dict[str, int], context: ReadContext
) -> tuple[dict[str, int], tuple[int, int] | None]:
    """The four columns of a box, and those of the image's size."""
    found: dict[str, int] = {r: i for r, i in chosen.items() if r in BOX_NAMES}
    for role, candidates in BOX_NAMES.items():
        if role not in found:
            for i in left:
                if names[i] in candidates:
                    found[role] = i
                    break
    width, height = (
        chosen.get(r, next((i for i in left if names[i] in (r, f"image_{r}", f"img_{r}")), None))
        for r in ("width", "height")
    )
    # `width` and `height` mean the box where it has no w and h of its own, and no far corner.
    near_corner_only = {"x", "y"} <= found.keys() and not {"w", "h", "x2"} & found.keys()
    if near_corner_only and width is not None and height is not None and "width" not in chosen:
        found["w"], found["h"] = width, height
        width = height = None
    size_wh = None if width is None or height is None else (width, height)
    for roles in (ORDERS["xyxy"], ORDERS["xywh"]):
        if all(r in found for r in roles):
            return {r: found[r] for r in roles}, size_wh
    if context.box_order is None:
        return {}, None
    if context.box_order not in ORDERS:
        raise UnknownName("box order", context.box_order, ORDERS)
    columns = [i for i in left if i not in (width, height) and _numeric(table.column(i))]
    if len(columns) < 4:
        raise BadDataset(
            f"{table.path}:1: box_order={context.box_order!r} needs four columns of numbers, not"
            f" {len(columns)}"
        )
    return dict(zip(ORDERS[context.box_order], columns[-4:], strict=True)), size_wh


def _label_columns(
    table: Table, names: list[str], left: list[int], chosen: dict[str, int]
) -> tuple[tuple[int, ...], tuple[int, ...], int | None, int | None]:
    """(columns of 0 and 1, columns of a name or nothing, the column of one name, the column of several)."""
    _refuse_probabilities(table, [chosen["label"]] if "label" in chosen else left)
    if "label" in chosen:
        return (), (), chosen["label"], None
    if "labels" in chosen:
        return (), (), None, chosen["labels"]
    for name in LABEL_NAMES:
        for i in left:
            if names[i] == name:
                several = any("|" in c for c in table.column(i))
                return ((), (), None, i) if several else ((), (), i, None)
    for name in LABELS_NAMES:
        for i in left:
            if names[i] == name:
                return (), (), None, i
    tags = tuple(i for i in left if re.fullmatch(r"(label|tag|class|defect|damage)_?\d+", names[i]))
    if tags and not all(_is_flags(table.column(i)) for i in tags):
        return (), tags, None, None
    flags = tuple(i for i in left if _is_flags(table.column(i)))
    if flags:
        _refuse_stray_cells(table, [i for i in left if i not in flags])
        return flags, (), None, None
    words = [i for i in left if not _numeric(table.column(i))]
    if len(words) == 1:
        several = any("|" in c for c in table.column(words[0]))
        return ((), (), None, words[0]) if several else ((), (), words[0], None)
    shown = ", ".join(h or "(empty)" for h in table.header)
    if not words and len(left) == 1:
        return (), (), left[0], None
    what = "several columns could hold the label" if words else "no column holds labels"
    raise BadDataset(f"{table.path}:1: {what} (columns: {shown}); say which with columns={{'label': ...}}")


def _refuse_probabilities(table: Table, left: list[int]) -> None:
    for i in left:
        cells = table.column(i)
        if not _numeric(cells):
            continue
        values = [float(c) for c in cells if c]
        bad = next((r for r, c in enumerate(cells) if c and float(c) not in (0.0, 1.0)), None)
        if bad is not None and all(0 <= v <= 1 for v in values):
            raise BadDataset(
                f"{table.origin(bad)}: column {table.header[i]!r} holds {cells[bad]}: probabilities are"
                f" no labels;"
                " decide on a threshold and write 0 or 1, or take the column out"
            )


def _refuse_stray_cells(table: Table, left: list[int]) -> None:
    """A label's column with a slip of the pen must not pass for a remark, and its label be lost."""
    for i in left:
        cells = table.column(i)
        stray = [row for row, cell in enumerate(cells) if cell.casefold() not in FLAGS]
        if stray and sum(map(bool, cells)) >= 10 * len(stray):
            raise BadDataset(
                f"{table.origin(stray[0])}: column {table.header[i]!r} holds {cells[stray[0]]!r} among 0 and"
                " 1; write 0 or 1, or take the column out"
            )


def _is_flags(cells: list[str]) -> bool:
    folded = {c.casefold() for c in cells}
    return folded <= FLAGS and folded != {""}


def _numeric(cells: list[str]) -> bool:
    filled = [c for c in cells if c]
    return bool(filled) and all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", c) for c in filled)
