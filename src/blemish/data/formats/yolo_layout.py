"""What a set of YOLO consists of: data.yaml, or else the tree, says labels, splits and images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from blemish.data.findings import Severity
from blemish.data.image_index import ImageIndex
from blemish.data.read_context import ReadContext
from blemish.data.split_names import split_named
from blemish.errors import BadDataset

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "class_names.txt")


@dataclass
class YoloLayout:
    """What data.yaml, or else the tree, says.

    Attributes:
        root: that images are named from.
        names: the labels in the order of their numbers; None where nobody names them.
        images: the images of each split, None being the split of a set without splits.
        names_file: the file that names the labels.
        has_keypoints: whether the lines go on after the box with points that are no outline.
    """

    root: Path
    names: list[str] | None
    images: dict[str | None, list[Path]] = field(default_factory=dict)
    names_file: Path | None = None
    has_keypoints: bool = False


def find_yaml(path: Path) -> Path | None:
    """The YAML file of a folder that names labels: by its name, or else the only one there is."""
    for name in YAML_NAMES:
        if (path / name).is_file() and has_names(path / name):
            return path / name
    others = [f for f in sorted(path.iterdir()) if f.suffix.casefold() in (".yaml", ".yml") and has_names(f)]
    return others[0] if len(others) == 1 else None


def has_names(file: Path) -> bool:
    """Whether a YAML file names labels and says where images are; it need not be valid for that."""
    try:
        raw = file.read_bytes()
    except OSError:
        return False
    text = raw.decode(_encoding(raw), "replace")  # whoever reads it says what is wrong with it
    keys = {
        line.split(":")[0].strip()
        for line in text.splitlines()
        if ":" in line and not line.startswith((" ", "#"))
    }
    return "names" in keys and bool(keys & {"train", "val", "test", "path", "nc"})


def looks_like_tree(path: Path) -> bool:
    """Whether text files lie in `labels` beside `images`, or beside a file that names labels."""
    trees = [path, *(p for p in path.iterdir() if p.is_dir() and split_named(p.name))]
    if any(
        (t / "images").is_dir() and any((t / "labels").rglob("*.txt"))
        for t in trees
        if (t / "labels").is_dir()
    ):
        return True
    return any((path / n).is_file() for n in NAME_FILES) and any(
        f.suffix == ".txt" and f.name not in NAME_FILES for f in path.iterdir()
    )


def plan_of_yaml(file: Path, context: ReadContext) -> YoloLayout:
    """What data.yaml says.

    Raises:
        BadDataset: it is no such file, or names what is not there; the message names file and line.
    """
    try:
        content = yaml.safe_load(_text(file))
    except RecursionError as error:
        raise BadDataset(
            f"{file}: it is nested too deep for a data.yaml; write names:, train: and val:"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # the last of dates such as 2020-13-45
        if isinstance(error, BadDataset):
            raise
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise BadDataset(f"{file}{line}: no valid YAML; mend it there") from error
    if not isinstance(content, dict):
        raise BadDataset(f"{file}: it is no mapping; write names:, train: and val:")
    names = _names(content.get("names"), file)
    if "nc" in content and str(content["nc"]).strip() != str(len(names)):
        context.problem(
            "unknown-label",
            f"nc is {content['nc']}, and names holds {len(names)}",
            origin=str(file),
            remedy="correct one of them",
            severity=Severity.WARNING,
        )
        context.note(f"{file.name} says nc: {content['nc']} and names {len(names)} labels")
    root = file.parent
    if content.get("path"):
        stated = Path(str(content["path"]))
        found = next((p for p in (stated, file.parent / stated) if p.is_dir()), None)
        if found is None or (
            found == stated and not stated.is_absolute() and (file.parent / stated).is_dir()
        ):
            found = file.parent / stated if (file.parent / stated).is_dir() else None
        if found is None:
            context.note(
                f"the path {str(stated)!r} in {file.name} does not exist here; its own folder was taken"
            )
        root = found or file.parent
    plan = YoloLayout(root, names, names_file=file, has_keypoints=bool(content.get("kpt_shape")))
    if plan.has_keypoints:
        context.note("keypoints were left out")
    for key, split in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")):
        entries = content.get(key)
        if entries:
            listed = entries if isinstance(entries, list) else [entries]
            plan.images.setdefault(split, []).extend(
                p for e in listed for p in _images_of(str(e), key, root, file, context)
            )
    if not plan.images:
        raise BadDataset(f"{file}: it names neither train, val nor test; say where their images are")
    if context.images is not None:
        plan.images = {None: list(ImageIndex(context.images).files.values())}
    return plan


def _names(value: Any, file: Path) -> list[str]:
    if isinstance(value, dict):
        keys = sorted(value) if all(isinstance(k, int) for k in value) else []
        if keys != list(range(len(value))):
            raise BadDataset(
                f"{file}: names must be numbered from 0 without gaps, not {list(value)[:8]}; correct them"
            )
        value = [value[k] for k in keys]
    if not isinstance(value, list) or not value:
        raise BadDataset(f"{file}: it names no labels; write them as a list, one on each line")
    names = [str(v).strip() for v in value]
    for i, name in enumerate(names):
        if not name:
            raise BadDataset(
                f"{file}: label {i} has no name; write one, labels are numbered from 0 in its order"
            )
        if name in names[:i]:
            raise BadDataset(f"{file}: the label {name!r} is given twice; rename one")
    return names


def _encoding(raw: bytes) -> str:
    return "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _text(file: Path) -> str:
    raw = file.read_bytes()
    try:
        return raw.decode(_encoding(raw))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadDataset(f"{file}:{line}: not in UTF-8; save it in UTF-8") from error


def _images_of(entry: str, key: str, root: Path, file: Path, context: ReadContext) -> list[Path]:
    """The images that a line of data.yaml means: a folder, or a text file that lists them."""
    plain = entry.replace("\\", "/")
    tail = "/".join(p for p in plain.split("/") if p not in ("..", "."))
    for place in (root / plain, root / tail, file.parent / tail):
        if place.is_dir():
            return list(ImageIndex(place).files.values())
        if place.is_file():
            return _listed(place, root, context)
    if key == "test":  # exports often name a test split that they do not hold
        context.note(f"{file.name} names a test split in {entry!r} that does not exist")
        return []
    raise BadDataset(f"{file}: {key}: there is no folder or list {entry!r} below {root}; correct it")


def _listed(listing: Path, root: Path, context: ReadContext) -> list[Path]:
    shelf = ImageIndex(root)
    found, missing = [], []
    for number, line in enumerate(_text(listing).splitlines(), 1):
        if line.strip():
            image = shelf.find(line)
            if image is None:
                missing.append((line.strip(), f"{listing}:{number}"))
            else:
                found.append(image)
    context.missing_images(missing, root, shelf)
    return found


def plan_of_tree(path: Path) -> YoloLayout:
    """What the tree says: images wherever they lie, labels in a file of one line each."""
    says = next((path / n for n in NAME_FILES if (path / n).is_file()), None)
    # A blank line between labels is a label without a name: were it passed over, the others would move up.
    names = None if says is None else _names(_text(says).rstrip().splitlines(), says)
    plan = YoloLayout(path, names, names_file=says)
    for image in ImageIndex(path).files.values():
        below = image.relative_to(path).parts[:-1]
        split = next((s for s in map(split_named, below) if s), None)
        plan.images.setdefault(split, []).append(image)
    return plan


def each_once(plan: YoloLayout, context: ReadContext) -> dict[str | None, list[Path]]:
    """The images of each split; one that stands in several is kept in the last, to measure with."""
    last: dict[Path, str | None] = {p: split for split, images in plan.images.items() for p in images}
    if len(last) == sum(map(len, plan.images.values())):
        return plan.images
    if set(last.values()) != set(plan.images):  # the last split holds all of another: the first one counts
        for split, images in reversed(plan.images.items()):
            last.update(dict.fromkeys(images, split))
    out: dict[str | None, list[Path]] = {}
    twice: dict[tuple[str | None, str | None], int] = {}
    for split, images in plan.images.items():
        out[split] = [p for p in dict.fromkeys(images) if last[p] == split]
        for image in images:
            if last[image] != split:
                pair = (split, last[image])
                twice[pair] = twice.get(pair, 0) + 1
    for (split, kept), count in twice.items():
        context.note(f"{count} images stand in {split} and in {kept}, and count for {kept} only")
        if context.lenient:
            context.problem(
                "split-leak",
                f"{count} images stand in {split} and in {kept}",
                origin=str(plan.names_file or plan.root),
                remedy="list each in one split only: blemish data split",
                fix=f"drops them from {split}",
            )
    return {s: p for s, p in out.items() if p}
