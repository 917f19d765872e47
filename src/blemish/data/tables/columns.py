"""Find the role of each column of a table: image, label, box, group, split, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from blemish.data.image_index import is_image_name
from blemish.data.read_context import ReadContext
from blemish.data.tables.cell_values import (
    UNCERTAIN_CELLS,
    are_separated_by_spaces,
    is_list_of_names,
    looks_structured,
)
from blemish.data.tables.refused_columns import (
    joins_labels,
    refuse_joined_labels,
    refuse_second_label,
    refuse_unread_geometry,
)
from blemish.data.tables.table_reader import Table
from blemish.errors import BadDataset, UnknownName
from blemish.structures import Task

PATH_NAMES = (
    *("filename", "file_name", "file", "filepath", "file_path", "path", "image", "image_path", "imagepath"),
    *(
        "image_name",
        "image_file",
        "img",
        "img_path",
        "photo",
        "image",
        "picture",
        "image_id",
        "imageid",
        "id",
    ),
)
LABEL_NAMES = (
    *("label", "class", "category", "target", "label_name", "labelname", "class_name", "name", "damage", "y"),
    *("class_id", "classid"),
)
# One name in each cell of such a column is the label of the image; a column `labels` may have one by chance.
ONE_OR_SEVERAL_NAMES = ("classes", "categories")
OPEN_IMAGES = frozenset({"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"})  # with fractions
GROUP_OF_NAMES = ("isgroupof",)
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
TRUE_CELLS = frozenset({"1", "true", "yes", "y", "x", "1.0"})
FALSE_CELLS = frozenset({"0", "false", "no", "n", "", "0.0"})
FLAG_CELLS = TRUE_CELLS | FALSE_CELLS
# Columns of 0 and 1 that annotation tools write about an image, which are no labels.
NOT_A_LABEL = frozenset(
    {"verified", "is_verified", "reviewed", "is_reviewed", "checked", "is_checked", "approved", "annotated"}
)
MAX_SHOWN_CELLS = 5  # that an error names
ROLES = ("path", "label", "labels", "group", "split", "width", "height", *BOX_NAMES)


@dataclass(frozen=True)
class ColumnRoles:
    """The positions of the columns of a table by role, counted from 0.

    Attributes:
        path: the image.
        label: the name of one label, or None.
        labels: the names of several labels in one cell, or None.
        flags: columns of 0 and 1, one per label.
        blank_means_false: whether an empty cell in a flag column means 0, as in tables that only mark the 1s.
        tags: columns that contain the name of a label or nothing.
        box: positions of `x`, `y`, `w`, `h` or of `x1`, `y1`, `x2`, `y2`; empty for tables without boxes.
        fractions: whether boxes are in fractions of width and height, as in OpenImages.
        crowd: 1 if a box contains a group of objects, or None.
        size_wh: columns of the width and height of the image, or None.
        group: the object in the image, such as a vehicle or claim, or None.
        split: train, val or test, or None.
        rest: all other columns.
        words: whether spaces separate the labels of a cell.
    """

    path: int
    label: int | None = None
    labels: int | None = None
    flags: tuple[int, ...] = ()
    blank_means_false: bool = False
    tags: tuple[int, ...] = ()
    box: dict[str, int] = field(default_factory=dict)
    fractions: bool = False
    crowd: int | None = None
    size_wh: tuple[int, int] | None = None
    group: int | None = None
    split: int | None = None
    rest: tuple[int, ...] = ()
    words: bool = False


def plain(header: str) -> str:
    """Return a header in lower case with underscores for spaces and punctuation.

    Example:
        >>> plain(" Image Path "), plain("Größe (mm)")
        ('image_path', 'grösse_mm')
    """
    return re.sub(r"[\W_]+", "_", header.casefold()).strip("_")


def find_roles(table: Table, context: ReadContext) -> ColumnRoles:
    """Return the role of each column, by the user's options, then by its header, then by its cells.

    Args:
        table: the table.
        context: the options `columns` and `box_order`.

    Raises:
        BadDataset: there is no column of images or of labels, or there are several candidates.
        UnknownName: an option names a column or a role that does not exist.
    """
    names = [plain(h) for h in table.header]
    chosen = {role: _position(table, names, role, column) for role, column in context.columns.items()}
    unassigned = [i for i in range(len(names)) if i not in chosen.values() and not _is_index(table, names, i)]

    def take(role: str, candidates: Iterable[str]) -> int | None:
        if role in chosen:
            return chosen[role]
        for name in candidates:
            for i in unassigned:
                if names[i] == name:
                    unassigned.remove(i)
                    return i
        return None

    path = chosen.get("path")
    path = _path_column(table, names, unassigned) if path is None else path
    if path in unassigned:
        unassigned.remove(path)
    split = take("split", SPLIT_COLUMNS)
    group = take("group", GROUP_NAMES)
    box, size_wh = _box_columns(table, names, unassigned, chosen, context)
    for i in (*box.values(), *(size_wh or ())):
        if i in unassigned:
            unassigned.remove(i)
    refuse_unread_geometry(table, names, box.values(), context)
    if box:
        label = take("label", LABEL_NAMES)
        refuse_second_label(table, names, context)
        if label is None:
            _note_columns_of_words(table, unassigned, context)
        crowd = take("crowd", GROUP_OF_NAMES)
        fractions = set(names) >= OPEN_IMAGES
        if fractions:
            context.note("the boxes are fractions of width and height, as in OpenImages")
        return ColumnRoles(
            path,
            label,
            box=box,
            fractions=fractions,
            crowd=crowd,
            size_wh=size_wh,
            group=group,
            split=split,
            rest=tuple(unassigned),
        )
    flags, tags, label, labels = _label_columns(table, names, unassigned, chosen, context)
    rest = tuple(i for i in unassigned if i not in (*flags, *tags, label, labels))
    words = False
    if label is not None and "label" not in chosen:
        refuse_second_label(table, names, context)
        refuse_joined_labels(table, label)
        label, labels = (None, label) if _has_several_names(table.column(label)) else (label, None)
    if labels is not None and _has_one_name(table, names, labels, chosen, context):
        context.note(
            f"the column {table.header[labels]!r} has one label per line; it is read as classification"
        )
        label, labels = labels, None
    if labels is not None:
        words = are_separated_by_spaces(
            table.column(labels), certain=names[labels] not in LABELS_NAMES and "labels" not in chosen
        )
        if words:
            context.note(f"spaces separate the labels in the column {table.header[labels]!r}")
    for i in (label, labels):
        if i is not None:
            _reject_structured_cells(table, i)
    if flags and rest:
        others = ", ".join(repr(table.header[i] or f"column {i}") for i in rest)
        context.note(f"columns that are not labels: {others}")
    # Tables that only mark the 1s leave other cells blank; next to a 0, a blank cell is a missing value.
    blank = not any(cell and cell.casefold() in FALSE_CELLS for i in flags for cell in table.column(i))
    return ColumnRoles(
        path=path,
        label=label,
        labels=labels,
        flags=flags,
        blank_means_false=blank,
        tags=tags,
        group=group,
        split=split,
        rest=rest,
        words=words,
    )


def _has_one_name(
    table: Table, names: list[str], position: int, chosen: dict[str, int], context: ReadContext
) -> bool:
    """Return whether a column such as `classes` has one name in each line: the label of the image."""
    if names[position] not in ONE_OR_SEVERAL_NAMES or "labels" in chosen or context.task is Task.MULTILABEL:
        return False
    cells = table.column(position)
    return all(re.fullmatch(r"[^|;,\[\]{}]+", cell) for cell in cells) and not are_separated_by_spaces(
        cells, certain=False
    )


def _position(table: Table, names: list[str], role: str, column: str | int) -> int:
    if role not in ROLES:
        raise UnknownName("column role", role, ROLES)
    if isinstance(column, int):
        if not -len(names) <= column < len(names):
            raise BadDataset(
                f"columns: expected a position from 0 to {len(names) - 1} for {role!r}, got {column}",
                where=f"{table.path}:1",
                remedy="correct the position",
                reason="column-position",
            )
        return column % len(names)
    for i, header in enumerate(table.header):
        if column == header or plain(column) == names[i]:
            return i
    raise UnknownName("column", column, table.header, where=str(table.path))


def _is_index(table: Table, names: list[str], position: int) -> bool:
    """Return whether a column only numbers the rows, as written by pandas."""
    if not (names[position] in ("", "index", "id", "no", "nr") or names[position].startswith("unnamed")):
        return False
    cells = table.column(position)
    return all(re.fullmatch(r"\d+(\.0)?", c) for c in cells) and len(set(cells)) == len(cells)


def _path_column(table: Table, names: list[str], unassigned: list[int]) -> int:
    def image_share(i: int) -> float:
        cells = table.column(i)[:200]
        return sum(is_image_name(c.replace("\\", "/").rsplit("/", 1)[-1]) for c in cells) / len(cells)

    by_header = [i for name in PATH_NAMES for i in unassigned if names[i] == name]
    by_cells = [i for i in unassigned if image_share(i) > 0.5]
    for i in (*(n for n in by_header if n in by_cells), *by_cells, *by_header):
        return i
    shown = ", ".join(h or "(empty)" for h in table.header)
    raise BadDataset(
        f"expected a column of image files, got the columns {shown}",
        where=f"{table.path}:1",
        remedy="name it filename, or pass --column path=NAME",
        reason="no-image-column",
    )


def _box_columns(
    table: Table, names: list[str], unassigned: list[int], chosen: dict[str, int], context: ReadContext
) -> tuple[dict[str, int], tuple[int, int] | None]:
    """Return the four columns of a box by role, and the columns of the width and height of the image."""
    box: dict[str, int] = {r: i for r, i in chosen.items() if r in BOX_NAMES}
    for role, candidates in BOX_NAMES.items():
        if role not in box:
            for i in unassigned:
                if names[i] in candidates:
                    box[role] = i
                    break
    width, height = (
        chosen.get(r, next((i for i in unassigned if names[i] in (r, f"image_{r}", f"img_{r}")), None))
        for r in ("width", "height")
    )
    # `width` and `height` are those of the box if it has neither w and h nor a second corner.
    has_first_corner_only = {"x", "y"} <= box.keys() and not {"w", "h", "x2"} & box.keys()
    if has_first_corner_only and width is not None and height is not None and "width" not in chosen:
        box["w"], box["h"] = width, height
        width = height = None
    size_wh = None if width is None or height is None else (width, height)
    for roles in (ORDERS["xyxy"], ORDERS["xywh"]):
        if all(r in box for r in roles):
            return {r: box[r] for r in roles}, size_wh
    if context.box_order is None:
        return {}, None
    if context.box_order not in ORDERS:
        raise UnknownName("box order", context.box_order, ORDERS)
    columns = [i for i in unassigned if i not in (width, height) and _numeric(table.column(i))]
    if len(columns) < 4:
        raise BadDataset(
            f"--box-order {context.box_order}: expected four columns of numbers, got {len(columns)}",
            where=f"{table.path}:1",
            remedy="add the columns, or name them with --column",
            reason="box-columns",
        )
    return dict(zip(ORDERS[context.box_order], columns[-4:], strict=True)), size_wh


def _label_columns(
    table: Table, names: list[str], unassigned: list[int], chosen: dict[str, int], context: ReadContext
) -> tuple[tuple[int, ...], tuple[int, ...], int | None, int | None]:
    """Return the columns of flags, of tags, of one label, and of several labels; see `ColumnRoles`."""
    _reject_probabilities(table, [chosen["label"]] if "label" in chosen else unassigned)
    if "label" in chosen:
        return (), (), chosen["label"], None
    if "labels" in chosen:
        return (), (), None, chosen["labels"]
    for name in LABEL_NAMES:
        for i in unassigned:
            if names[i] == name:
                return (), (), i, None
    for name in LABELS_NAMES:
        for i in unassigned:
            if names[i] == name:
                return (), (), None, i
    tags = tuple(i for i in unassigned if re.fullmatch(r"(label|tag|class|defect|damage)_?\d+", names[i]))
    if tags and not all(_is_flags(table.column(i), FLAG_CELLS) for i in tags):
        return (), tags, None, None
    accepted = FLAG_CELLS if context.uncertain == "error" else FLAG_CELLS | UNCERTAIN_CELLS
    flags = tuple(
        i for i in unassigned if _is_flags(table.column(i), accepted) and names[i] not in NOT_A_LABEL
    )
    if flags or any(map(_is_nearly_flags, (table.column(i) for i in unassigned))):
        _reject_stray_cells(table, [i for i in unassigned if i not in flags], accepted)
    if flags:
        return flags, (), None, None
    text_columns = [i for i in unassigned if not _numeric(table.column(i))]
    if len(text_columns) == 1:
        return (), (), text_columns[0], None
    shown = ", ".join(h or "(empty)" for h in table.header)
    if not text_columns and len(unassigned) == 1 and _are_integers(table.column(unassigned[0])):
        return (), (), unassigned[0], None
    count = f"{len(text_columns)} columns" if text_columns else "none"
    raise BadDataset(
        f"expected one column of labels, got {count} that can contain them among {shown}",
        where=f"{table.path}:1",
        remedy="pass --column label=NAME",
        reason="label-column",
    )


def _note_columns_of_words(table: Table, unassigned: list[int], context: ReadContext) -> None:
    """Note the columns that may contain the labels of boxes, which are read as one label."""
    found = [table.header[i] for i in unassigned if any(table.column(i)) and not _numeric(table.column(i))]
    if found:
        context.note(
            f"the boxes have no column of labels and are read as 'object'; --column label={found[0]} reads"
            f" {' or '.join(map(repr, found))} as labels"
        )


def _are_integers(cells: list[str]) -> bool:
    return all(re.fullmatch(r"[-+]?\d+(\.0*)?", cell) for cell in cells if cell)


def _reject_probabilities(table: Table, unassigned: list[int]) -> None:
    for i in unassigned:
        cells = table.column(i)
        if not _numeric(cells):
            continue
        values = [float(c) for c in cells if c]
        bad = next((r for r, c in enumerate(cells) if c and float(c) not in (0.0, 1.0)), None)
        if bad is not None and all(0 <= v <= 1 for v in values):
            raise BadDataset(
                f"column {table.header[i]!r}: expected labels, got the probability {cells[bad]}",
                where=table.origin(bad),
                remedy="apply a threshold and write 0 or 1, or remove the column",
                reason="probabilities",
            )


def _reject_stray_cells(table: Table, unassigned: list[int], accepted: frozenset[str]) -> None:
    """Reject a flag column with invalid cells; without this check, its label would be lost."""
    for i in unassigned:
        cells = table.column(i)
        stray = [row for row, cell in enumerate(cells) if cell.casefold() not in accepted]
        if stray and (sum(map(bool, cells)) >= 10 * len(stray) or _is_nearly_flags(cells)):
            found = list(dict.fromkeys(repr(cells[row]) for row in stray))
            shown = ", ".join(found[:MAX_SHOWN_CELLS]) + (", ..." if len(found) > MAX_SHOWN_CELLS else "")
            uncertain = any(cells[row].casefold() in UNCERTAIN_CELLS for row in stray)
            raise BadDataset(
                f"column {table.header[i]!r}: expected 0 or 1, got {shown} in {len(stray)} of {len(cells)} "
                "lines",
                where=table.origin(stray[0]),
                remedy="write 0 or 1, or remove the column"
                + (", or pass --uncertain negative, positive or drop" if uncertain else ""),
                reason="flag-value",
            )


def _reject_structured_cells(table: Table, position: int) -> None:
    """Reject JSON and lists that are not lists of labels in the column of labels."""
    for row, cell in enumerate(table.column(position)):
        if looks_structured(cell) and not is_list_of_names(cell):
            raise BadDataset(
                f"column {table.header[position]!r}: expected labels, got {cell[:80]!r}",
                where=table.origin(row),
                remedy="write names, separated by | if there are several, or pass --column label=NAME",
                reason="unreadable-cell",
            )


def _has_several_names(cells: list[str]) -> bool:
    """Return whether a cell of a column of labels contains several."""
    listed = any("|" in cell or is_list_of_names(cell) for cell in cells) or joins_labels(cells)
    return listed or are_separated_by_spaces(cells, certain=True)


def _is_flags(cells: list[str], accepted: frozenset[str]) -> bool:
    folded = {c.casefold() for c in cells}
    return folded <= accepted and not folded <= {"", *UNCERTAIN_CELLS}


def _is_nearly_flags(cells: list[str]) -> bool:
    """Return whether most cells are 0 or 1, and the others are no counts, which continue with 2."""
    filled = [c.casefold() for c in cells if c]
    stray = [c for c in filled if c not in FLAG_CELLS]
    return 0 < 2 * len(stray) < len(filled) and not all(c.isdecimal() for c in stray)


def _numeric(cells: list[str]) -> bool:
    filled = [c for c in cells if c]
    return bool(filled) and all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", c) for c in filled)
