"""The layout of a YOLO data set: labels, splits and images from data.yaml or from the folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from blemish.data.findings import Severity
from blemish.data.formats.yolo_paths import by_last_parts, child_folder, path_parts, trees
from blemish.data.image_index import ImageIndex, is_image_name
from blemish.data.read_context import ReadContext
from blemish.data.split_names import SPLITS, split_named
from blemish.errors import BadDataset

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "class_names.txt", "_darknet.labels")


@dataclass
class YoloLayout:
    """Labels, splits and images of a data set.

    Attributes:
        root: the folder that sample ids are relative to.
        names: names of the labels in the order of their indices, or None if no file contains them.
        images: the images of each split; the key is None for a data set without splits.
        names_file: the file with the names of the labels, or None.
        has_keypoints: whether lines contain keypoints after the box.
    """

    root: Path
    names: list[str] | None
    images: dict[str | None, list[Path]] = field(default_factory=dict)
    names_file: Path | None = None
    has_keypoints: bool = False


def find_yaml(path: Path) -> Path | None:
    """Return the YAML file of a folder with names of labels: one of the usual names, or the only one."""
    for name in YAML_NAMES:
        if (path / name).is_file() and has_names(path / name):
            return path / name
    others = [f for f in sorted(path.iterdir()) if f.suffix.casefold() in (".yaml", ".yml") and has_names(f)]
    return others[0] if len(others) == 1 else None


def has_names(file: Path) -> bool:
    """Return whether a YAML file has keys for labels and images; the file may be invalid otherwise."""
    try:
        raw = file.read_bytes()
    except OSError:
        return False
    text = raw.decode(_encoding(raw), "replace")  # reading it reports invalid characters
    keys = {
        line.split(":")[0].strip()
        for line in text.splitlines()
        if ":" in line and not line.startswith((" ", "#"))
    }
    return "names" in keys and bool(keys & {"train", "val", "test", "path", "nc"})


def is_label_tree(path: Path) -> bool:
    """Return whether there are text files in `labels` next to `images`, or next to a file of label names."""
    for tree in trees(path):
        labels = child_folder(tree, "labels")
        if labels is not None and child_folder(tree, "images") is not None and any(labels.rglob("*.txt")):
            return True
    return any(_has_label_files_and_names(path, tree) for tree in trees(path))


def _has_label_files_and_names(path: Path, tree: Path) -> bool:
    """Return whether a folder has a text file for an image next to it, and names of labels in it or above."""
    if not any((folder / n).is_file() for folder in {path, tree} for n in NAME_FILES):
        return False
    names = [p.name for p in tree.iterdir()]
    texts = {n[: -len(".txt")] for n in names if n.endswith(".txt") and n not in NAME_FILES}
    if tree == path and any(map(split_named, texts)):  # lists of Darknet
        return True
    return any(is_image_name(n) and n.rpartition(".")[0] in texts for n in names)


def layout_from_yaml(file: Path, context: ReadContext) -> YoloLayout:
    """Return the layout that data.yaml describes.

    Args:
        file: the YAML file.
        context: the option `images`; receives faults and notes.

    Raises:
        BadDataset: the file is invalid, or a folder or list in it does not exist; the message names the line.
    """
    try:
        text = _decode(file)
        content = yaml.safe_load(text)
        # Without the types of YAML: no, yes and 010 are names, not False, True and 8.
        as_text = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it creates text, lists and mappings
    except RecursionError as error:
        raise BadDataset(
            "invalid YAML (nested too deep)",
            where=file,
            remedy="write names:, train: and val:",
            reason="invalid-yaml",
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError comes from dates such as 2020-13-45
        if isinstance(error, BadDataset):
            raise
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise BadDataset(
            "invalid YAML", where=f"{file}{line}", remedy="correct the file", reason="invalid-yaml"
        ) from error
    if not isinstance(content, dict):
        raise BadDataset(
            "expected a mapping", where=file, remedy="write names:, train: and val:", reason="invalid-entry"
        )
    names = _names(as_text.get("names"), file)
    if "nc" in content and str(content["nc"]).strip() != str(len(names)):
        context.problem(
            "unknown-label",
            f"nc: expected the number of names, {len(names)}, got {content['nc']}",
            origin=str(file),
            remedy="correct one of them",
            severity=Severity.WARNING,
        )
        context.note(f"{file.name} has nc: {content['nc']} and {len(names)} names; the names were used")
    root = _root_of(content.get("path"), file, context)
    layout = YoloLayout(root, names, names_file=file, has_keypoints=bool(content.get("kpt_shape")))
    if layout.has_keypoints:
        context.note("keypoints were left out")
    for key, split in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")):
        entries = content.get(key)
        if entries:
            listed = entries if isinstance(entries, list) else [entries]
            layout.images.setdefault(split, []).extend(
                p for e in listed for p in _images_of(str(e), key, root, file, content.get("path"), context)
            )
    if not layout.images:
        raise BadDataset(
            "expected one of train:, val: and test:",
            where=file,
            remedy="add the folders of the images",
            reason="missing-key",
        )
    if context.images is not None:
        layout.images = {None: list(ImageIndex(context.images).files.values())}
    return layout


def _names(value: Any, file: Path) -> list[str]:
    if isinstance(value, dict):
        value = {int(k) if str(k).isdecimal() else k: v for k, v in value.items()}
        keys = sorted(value) if all(isinstance(k, int) for k in value) else []
        if keys != list(range(len(value))):
            raise BadDataset(
                f"names: expected the keys 0 to {len(value) - 1}, got {list(value)[:8]}",
                where=file,
                remedy="number the names from 0 without gaps",
                reason="label-names",
            )
        value = [value[k] for k in keys]
    if not isinstance(value, list) or not value:
        raise BadDataset(
            "names: expected a list of labels",
            where=file,
            remedy="write the names as a list",
            reason="label-names",
        )
    names = [str(v).strip() for v in value]
    for i, name in enumerate(names):
        if not name:
            raise BadDataset(
                f"names: expected a name for label index {i}, got an empty one",
                where=file,
                remedy="add a name; the order of the names gives the indices, from 0",
                reason="label-names",
            )
        if name in names[:i]:
            raise BadDataset(
                f"names: {name!r} occurs twice", where=file, remedy="rename one", reason="label-names"
            )
    return names


def _encoding(raw: bytes) -> str:
    return "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _decode(file: Path) -> str:
    raw = file.read_bytes()
    try:
        return raw.decode(_encoding(raw))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadDataset(
            "the text is not UTF-8",
            where=f"{file}:{line}",
            remedy="save the file as UTF-8",
            reason="encoding",
        ) from error


def _root_of(stated: Any, file: Path, context: ReadContext) -> Path:
    """Return the folder of the entry `path` of data.yaml, by its last parts if it is of another machine."""
    if not stated:
        return file.parent
    written = Path(str(stated).replace("\\", "/"))
    beside = file.parent / written
    if beside.is_dir() and not written.is_absolute():
        return beside
    if written.is_dir():
        return written
    parts = path_parts(str(stated))
    found = None if parts[-1:] == [file.parent.name] else by_last_parts(str(stated), (file.parent,))
    if found is not None and found.is_dir():
        context.note(
            f"path: {str(stated)!r} in {file.name} does not exist; {found.name}, its last part, was used"
        )
        return found
    context.note(f"path: {str(stated)!r} in {file.name} does not exist; the folder of the file was used")
    return file.parent


def _images_of(
    entry: str, key: str, root: Path, file: Path, stated_root: Any, context: ReadContext
) -> list[Path]:
    """Return the images of an entry of data.yaml, which is a folder or a text file with a list of images."""
    plain = entry.replace("\\", "/")
    tail = "/".join(p for p in plain.split("/") if p not in ("..", "."))
    exact = next((p for p in (root / plain, root / tail, file.parent / tail) if p.exists()), None)
    place = exact or by_last_parts(entry, (root, file.parent))
    if place is not None:
        if exact is None:
            shown = place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)
            context.note(f"{key}: {entry!r} in {file.name} does not exist; {shown} was used")
        return list(ImageIndex(place).files.values()) if place.is_dir() else _listed(place, root, context)
    if key == "test":  # many exports list a test split that they do not contain
        context.note(f"{file.name} lists a test split in {entry!r}, which does not exist")
        return []
    wrong_root = (
        f", and path: {str(stated_root)!r} does not exist" if stated_root and root == file.parent else ""
    )
    raise BadDataset(
        f"{key}: no such folder or list {entry!r} in {root}{wrong_root}",
        where=file,
        remedy="correct path:" if wrong_root else "correct the entry",
        reason="no-image-folder",
    )


def _listed(listing: Path, root: Path, context: ReadContext) -> list[Path]:
    image_index = ImageIndex(root)
    images, missing = [], []
    for number, line in enumerate(_decode(listing).splitlines(), 1):
        if line.strip():
            image = image_index.find(line)
            if image is None:
                missing.append((line.strip(), f"{listing}:{number}"))
            else:
                images.append(image)
    context.missing_images(missing, root, image_index)
    return images


def layout_from_tree(path: Path, context: ReadContext) -> YoloLayout:
    """Return the layout of a folder: all images below it, and a text file with one label per line.

    Splits are those of lists such as train.txt and valid.txt, as Darknet and CVAT write them, or of folders.

    Args:
        path: the folder.
        context: receives images that no list contains.

    Raises:
        BadDataset: two files of names differ, or a list is invalid.
    """
    names_file = _names_file(path)
    # A blank line between labels is a label without a name; skipping it would shift the later indices.
    names = None if names_file is None else _names(_decode(names_file).rstrip().splitlines(), names_file)
    layout = YoloLayout(path, names, names_file=names_file)
    lists = {split: f for f in sorted(path.glob("*.txt")) if (split := split_named(f.stem)) is not None}
    if len(lists) > 1:
        layout.images = {split: _listed(lists[split], path, context) for split in SPLITS if split in lists}
        return layout
    for image in ImageIndex(path).files.values():
        below = image.relative_to(path).parts[:-1]
        split = next((s for s in map(split_named, below) if s), None)
        layout.images.setdefault(split, []).append(image)
    return layout


def _names_file(path: Path) -> Path | None:
    """Return the file of label names: in the folder of the data set, or next to the images or label files."""
    folders = [path]
    for tree in trees(path):
        inside = [f for n in ("labels", "images") if (f := child_folder(tree, n)) is not None]
        folders += [tree, *(below for folder in inside for below in trees(folder))]
    for part in ([path], folders[1:]):
        found = [f for folder in part for n in NAME_FILES if (f := folder / n).is_file()]
        if len({f.read_bytes().strip() for f in found[: None if part != [path] else 1]}) > 1:
            raise BadDataset(
                f"expected one file of label names, got several with other names: {found[1]}",
                where=found[0],
                remedy="keep one of them, in the folder of the data set",
                reason="ambiguous-files",
            )
        if found:
            return found[0]
    return None


def images_by_split(layout: YoloLayout, context: ReadContext) -> dict[str | None, list[Path]]:
    """Return the images of each split; an image in several splits is read into the last of them."""
    last: dict[Path, str | None] = {p: split for split, images in layout.images.items() for p in images}
    if len(last) == sum(map(len, layout.images.values())):
        return layout.images
    if set(last.values()) != set(
        layout.images
    ):  # the last split contains all images of another: the first split wins
        for split, images in reversed(layout.images.items()):
            last.update(dict.fromkeys(images, split))
    unique: dict[str | None, list[Path]] = {}
    repeated: dict[tuple[str | None, str | None], int] = {}
    for split, images in layout.images.items():
        unique[split] = [p for p in dict.fromkeys(images) if last[p] == split]
        for image in images:
            if last[image] != split:
                pair = (split, last[image])
                repeated[pair] = repeated.get(pair, 0) + 1
    for (split, kept), count in repeated.items():
        context.note(f"{count} images in both {split} and {kept} are read into {kept} only")
        if context.lenient:
            context.problem(
                "split-leak",
                f"{count} images are in both {split} and {kept}",
                origin=str(layout.names_file or layout.root),
                remedy="list each in one split only, or run blemish data split",
                fix=f"drops them from {split}",
            )
    return {s: p for s, p in unique.items() if p}
