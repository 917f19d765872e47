"""The exceptions that Blemish raises on purpose, each with a stable `code`.

    BlemishError                  code "error"
    ├── BadInput                  "bad-input"          the user's input is wrong
    │   ├── BadImage              "bad-image"          an image cannot be used; carries its path
    │   │   ├── ImageTooLarge     "image-too-large"    over the byte or pixel limit, known from the header
    │   │   ├── ImageUndecodable  "image-undecodable"  not an image, or in a format that is not supported
    │   │   └── ImageTruncated    "image-truncated"    starts as an image and ends too early
    │   ├── BadDataset            "bad-dataset"        labels and images that cannot be read as a data set
    │   ├── BadRecipe             "bad-recipe"         an impossible recipe key, value or combination
    │   ├── BadModelFile          "bad-model-file"     not a model file, damaged, or of a later format
    │   │   └── NetworkTooSlow    "network-too-slow"   one run of its network passed the time limit
    │   ├── BadWeights            "bad-weights"        weights that do not fit the network, or are not weights
    │   ├── WrongTask             "wrong-task"         an object of one task passed to a function of another
    │   ├── UnknownName           "unknown-name"       no label, architecture, format or option has that name
    │   ├── Conflict              "conflict"           what is changed has changed, or exists already
    │   └── BadStore              "bad-store"          a store of inspections that cannot be used
    ├── DuplicateName             "duplicate-name"     two plug-ins register one name
    ├── MissingExtra              "missing-extra"      an optional dependency is not installed
    ├── NoNetwork                 "no-network"         a download failed
    ├── StorageFull               "storage-full"       the disk is full or read-only; earlier files are intact
    ├── ExportRefused             "export-refused"     the exported file does not decide as the network does
    ├── EngineFailed              "engine-failed"      a cluster failed; complete shards are intact
    └── TrainingFailed            "training-failed"    training cannot continue; the last checkpoint is intact

The message is one sentence or two: what is wrong, where, and what to do. On the command line every
error exits with code 2; exit code 1 means that part of the work was done.

Programs should branch on `error.code`, never on the message. A raise site may refine the code of its class
with a suffix after a dot ("bad-recipe.unknown-key"); `error.code.startswith("bad-recipe")` stays true.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar


class BlemishError(Exception):
    """Base class of every exception that Blemish raises on purpose.

    Args:
        message: one sentence: what is wrong, where, and what to do.
        reason: a kebab-case suffix that refines the code of the class, such as "unknown-key"; "" for none.

    Attributes:
        code: stable identifier of the kind of error: the class's code, then "." and `reason` if there is one.
    """

    class_code: ClassVar[str] = "error"

    def __init__(self, message: str = "", *, reason: str = "") -> None:
        self.code = f"{self.class_code}.{reason}" if reason else self.class_code
        super().__init__(message)


class BadInput(BlemishError, ValueError):
    """The user's input is wrong."""

    class_code = "bad-input"


class BadImage(BadInput):
    """An image cannot be used.

    Attributes:
        path: the file, or None for an image in memory.
        detail: what is wrong with it, without the path.
        remedy: what the user can do, or "".
    """

    class_code = "bad-image"

    def __init__(self, path: Path | str | None, detail: str, *, reason: str = "", remedy: str = "") -> None:
        self.path = None if path is None else Path(path)
        self.detail = detail
        self.remedy = remedy
        where = path if path is not None else "image"
        super().__init__(f"{where}: {detail}" + (f"; {remedy}" if remedy else ""), reason=reason)


class ImageTooLarge(BadImage):
    """An image is over the byte or pixel limit; known before decoding."""

    class_code = "image-too-large"


class ImageUndecodable(BadImage):
    """A file is not an image, or is in a format that is not supported."""

    class_code = "image-undecodable"


class ImageTruncated(BadImage):
    """A file starts as an image and ends too early."""

    class_code = "image-truncated"


class BadDataset(BadInput):
    """Labels and images cannot be read as a data set.

    Args:
        detail: what is wrong, without the place.
        where: the file or folder, with the line if there is one: "labels.csv:14".
        remedy: what the user can do.
        reason: a suffix of the code; see BlemishError.

    Attributes:
        detail: what is wrong, without the place.
        where: the place, or "" if `detail` names it.
        remedy: what the user can do, or "" if `detail` contains it.
    """

    class_code = "bad-dataset"

    def __init__(self, detail: str, *, where: Path | str = "", remedy: str = "", reason: str = "") -> None:
        self.detail = detail
        self.where = str(where)
        self.remedy = remedy
        place = f"{where}: " if self.where else ""
        super().__init__(f"{place}{detail}" + (f"; {remedy}" if remedy else ""), reason=reason)


class BadRecipe(BadInput):
    """A recipe key, value or combination is not possible."""

    class_code = "bad-recipe"


class BadModelFile(BadInput):
    """A file is not a model file, is damaged, or is of a later format version."""

    class_code = "bad-model-file"


class NetworkTooSlow(BadModelFile):
    """A run of the network of a model file passed its time limit, as with a loop that never ends."""

    class_code = "network-too-slow"


class BadWeights(BadInput):
    """Weights do not fit the network, or are not weights."""

    class_code = "bad-weights"


class WrongTask(BadInput):
    """An object of one task was passed to a function of another."""

    class_code = "wrong-task"


class UnknownName(BadInput):
    """A label, architecture, format or option does not exist.

    Attributes:
        kind: what was looked up, such as "architecture".
        name: the name that does not exist.
        nearest: the closest existing name, or None.
    """

    class_code = "unknown-name"

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "") -> None:
        names = [str(n) for n in known]
        self.kind = kind
        self.name = name
        self.nearest = nearest_name(name, names)
        at = f" in {where}" if where else ""
        super().__init__(
            f"unknown {kind} {name!r}{at}{suggestion(name, names)}", reason=kind.replace(" ", "-").casefold()
        )


class Conflict(BadInput):
    """A change of something that has changed in the meantime, or that exists already."""

    class_code = "conflict"


class BadStore(BadInput):
    """A store of inspections is not there, damaged, busy, or of a later version."""

    class_code = "bad-store"


class DuplicateName(BlemishError):
    """Two registrations use one name."""

    class_code = "duplicate-name"


class MissingExtra(BlemishError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: the extra of the package that installs it, such as "train".
    """

    class_code = "missing-extra"

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(f"{purpose} needs the extra {extra!r}. Run {install_command(extra)}.")


class NoNetwork(BlemishError):
    """A download failed."""

    class_code = "no-network"


class StorageFull(BlemishError, OSError):
    """The disk is full or read-only; what was there before is intact."""

    class_code = "storage-full"


class ExportRefused(BlemishError):
    """The exported file does not decide as the network does."""

    class_code = "export-refused"


class EngineFailed(BlemishError):
    """A cluster that predicts cannot be reached, or failed; complete shards are intact."""

    class_code = "engine-failed"


class TrainingFailed(BlemishError):
    """Training cannot continue; the last good checkpoint is intact."""

    class_code = "training-failed"


ON_PYPI = False  # set to True in the commit of the first release


def install_command(*extras: str) -> str:
    """Return the command that installs some extras into this environment, from where Blemish came from.

    A package from an index, a checkout, an address or a wheel file is recognized by the record that the
    installer leaves (PEP 610). The folder of a checkout is not named: an error can reach another machine.

    Args:
        extras: such as "train".
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    origin = _install_origin()
    if origin is None:
        return published_install_command(*extras)
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        edit = "-e " if (origin["dir_info"] or {}).get("editable") else ""
        return f"pip install {edit}'.{wanted}' in your checkout of Blemish"
    if "vcs_info" in origin:
        info = origin["vcs_info"]
        return f"pip install 'blemish{wanted} @ {info.get('vcs')}+{url}@{info.get('commit_id')}'"
    if url.startswith("file:"):
        return f"pip install './{url.rpartition('/')[2]}{wanted}' in the folder of that file"
    return f"pip install 'blemish{wanted} @ {url}'" if url else f"pip install 'blemish{wanted}'"


def published_install_command(*extras: str) -> str:
    """Return the command that installs Blemish with some extras on any machine.

    Before the first release on PyPI, only a checkout can be installed.

    Example:
        >>> published_install_command("train", "yolo")
        "pip install '.[train,yolo]' in a checkout of Blemish"
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    if ON_PYPI:
        return f"pip install 'blemish{wanted}'"
    return f"pip install '.{wanted}' in a checkout of Blemish"


def _install_origin() -> dict[str, Any] | None:
    """Return the content of `direct_url.json`; {} for a package from an index, None if not installed."""
    import json  # both are imported when a message needs them
    from importlib import metadata

    try:
        text = metadata.distribution("blemish").read_text("direct_url.json")
        origin = json.loads(text) if text else {}
    except (metadata.PackageNotFoundError, ValueError, OSError):
        return None
    return origin if isinstance(origin, dict) else None


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the name in `known` that is closest to `name`, or None.

    Example:
        >>> nearest_name("dents", ["dent", "scratch"])
        'dent'
    """
    import difflib  # here, because most runs of a command never need it

    folded = {str(n).casefold(): str(n) for n in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def suggestion(name: str, known: Iterable[str], max_names: int = 12) -> str:
    """Return the end of an error message about an unknown name: the nearest name, or a list of a few.

    Example:
        >>> suggestion("dents", ["dent", "scratch"])
        "; did you mean 'dent'?"
        >>> suggestion("xyz", ["dent", "scratch"])
        '; known are dent, scratch'
    """
    names = [str(n) for n in known]
    nearest = nearest_name(name, names)
    if nearest is not None:
        return f"; did you mean {nearest!r}?"
    if not names:
        return ""
    shown = ", ".join(names[:max_names])
    return f"; known are {shown}" + (f" and {len(names) - max_names} more" if len(names) > max_names else "")
