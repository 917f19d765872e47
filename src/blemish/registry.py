"""`Registry`: named entries that Blemish and third-party packages add in the same way.

Every kind of extension (architecture, task, format, check, decoder, backend, explainer, metric, loss,
augmentation, callback, command, route) has one registry in its own package. A third-party package adds to it
through an entry point in the group `blemish.<kind>`; the entry point names a module (or an object in one)
whose import registers the extension:

    [project.entry-points."blemish.architectures"]
    my-network = "my_package.network"

A plug-in that fails to load is reported once, with the name of its distribution, and skipped; the rest of
the program keeps working.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Generic, TypeVar

from blemish.errors import DuplicateName, UnknownName

T = TypeVar("T")

NO_PLUGINS = "BLEMISH_NO_PLUGINS"  # set to 1 to ignore every entry point
KINDS = (
    "architectures",
    "tasks",
    "formats",
    "checks",
    "decoders",
    "backends",
    "explainers",
    "metrics",
    "losses",
    "augmentations",
    "callbacks",
    "commands",
    "routes",
)


class PluginWarning(UserWarning):
    """A plug-in could not be loaded; its distribution is named."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed package.

    Attributes:
        kind: the registry it adds to, such as "architectures".
        name: the name of the entry point.
        target: the module or object it names, such as "my_package.network".
        distribution: the package that declares it, with its version: "my-package 1.0".
        error: why it could not be loaded, or "".
    """

    kind: str
    name: str
    target: str
    distribution: str
    error: str = ""


class Registry(Generic[T]):
    """Named entries of one kind, built in or added by plug-ins.

    Built-in modules and entry points are imported at the first look-up, not before. An entry that is
    registered later is seen by the next look-up.

    Args:
        kind: the group of entry points below "blemish.", one of `KINDS`.
        noun: what an error calls one entry, such as "architecture".
        builtin: the package whose modules register the built-in entries, or "" if none have to be imported.

    Example:
        >>> colors = Registry("checks", noun="color")
        >>> colors.register("red", 1, module="a")
        >>> colors.get("red"), colors.names()
        (1, ('red',))
        >>> colors.get("rod")
        Traceback (most recent call last):
        blemish.errors.UnknownName: unknown color 'rod'; did you mean 'red'?
    """

    def __init__(self, kind: str, *, noun: str, builtin: str = "") -> None:
        if kind not in KINDS:
            raise UnknownName("kind of plug-in", kind, KINDS)
        self.kind = kind
        self.noun = noun
        self._builtin = builtin
        self._entries: dict[str, T] = {}
        self._modules: dict[str, str] = {}
        self._state = "unloaded"
        self._lock = threading.RLock()

    def register(self, name: str, entry: T, *, module: str) -> None:
        """Add an entry.

        Args:
            name: what users write.
            entry: the object that `get` returns.
            module: the module that registers it, for the error about a duplicate.

        Raises:
            DuplicateName: another module has registered `name`; the message names both. A module that is
                executed again (reloaded) replaces its own entries.
        """
        first = self._modules.get(name)
        if first is not None and first != module:
            raise DuplicateName(
                f"{self.noun} {name!r} is registered by {first} and by {module}: rename one of them, "
                "or uninstall one of the packages"
            )
        self._entries[name] = entry
        self._modules[name] = module

    def unregister(self, name: str) -> None:
        """Remove an entry, as tests do; nothing happens if it does not exist."""
        self._entries.pop(name, None)
        self._modules.pop(name, None)

    def get(self, name: str) -> T:
        """Return the entry registered as `name`.

        Raises:
            UnknownName: there is none; the message offers the nearest name.
        """
        self.load()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self.noun, name, self.names()) from None

    def names(self) -> tuple[str, ...]:
        """Return every registered name, in order of registration."""
        self.load()
        return tuple(self._entries)

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield every name with its entry, in order of registration."""
        self.load()
        yield from tuple(self._entries.items())

    def module_of(self, name: str) -> str:
        """Return the module that registered `name`."""
        self.get(name)
        return self._modules[name]

    def __contains__(self, name: object) -> bool:
        self.load()
        return name in self._entries

    def load(self) -> None:
        """Import the built-in modules and the entry points of this kind, once."""
        if self._state == "loaded":
            return
        with self._lock:  # another thread waits until every entry is there
            self._load()

    def _load(self) -> None:
        if self._state != "unloaded":
            return
        self._state = "loading"  # a module that looks something up while it is imported does not recurse
        try:
            if self._builtin:
                from pkgutil import iter_modules

                package = import_module(self._builtin)
                for module in iter_modules(package.__path__):
                    import_module(f"{self._builtin}.{module.name}")
        except BaseException:
            self._state = "unloaded"
            raise
        load_plugins(self.kind)
        self._state = "loaded"


def register_in(registry: Registry[T], name: str) -> Callable[[T], T]:
    """Return a decorator that registers a function or class under `name` and returns it unchanged."""

    def decorate(entry: T) -> T:
        registry.register(name, entry, module=getattr(entry, "__module__", "?"))
        return entry

    return decorate


@cache
def load_plugins(kind: str) -> tuple[Plugin, ...]:
    """Import every entry point of one kind, once.

    Args:
        kind: one of `KINDS`.

    Returns:
        The entry points found, each with the reason if it could not be loaded.

    Warns:
        PluginWarning: one for each entry point that cannot be loaded.
    """
    if os.environ.get(NO_PLUGINS, "") not in ("", "0") or not _may_have_plugins(kind):
        return ()
    from importlib import metadata  # 10 ms, which most commands do not have to pay

    found = []
    for point in sorted(metadata.entry_points(group=f"blemish.{kind}"), key=lambda p: p.name):
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"
        error = ""
        try:
            point.load()
        except Exception as failure:  # a third party's module may raise anything
            error = f"{type(failure).__name__}: {failure}"
            warnings.warn(
                f"plug-in {point.name!r} ({kind}) of {distribution} cannot be loaded: {error}. "
                f"Install another version of it, uninstall it, or set {NO_PLUGINS}=1.",
                PluginWarning,
                stacklevel=2,
            )
        found.append(Plugin(kind, point.name, point.value, distribution, error))
    return tuple(found)


def _may_have_plugins(kind: str) -> bool:
    """Return False only if no distribution on the import path declares an entry point of this kind."""
    kinds = _declared_kinds(tuple(dict.fromkeys(sys.path)))
    return kinds is None or kind.encode() in kinds


@cache
def _declared_kinds(folders: tuple[str, ...]) -> frozenset[bytes] | None:
    """Return the kinds that distributions in these folders declare; None if a folder cannot be searched.

    Reading the declarations directly takes a fifth of the time of `importlib.metadata.entry_points`, and on
    most machines there is no plug-in. A training asks for five kinds; the files are read once.
    """
    header = re.compile(rb"^\[\s*blemish\.([^\]\s]+)\s*\]", re.MULTILINE)
    kinds: set[bytes] = set()
    for folder in folders:
        try:
            with os.scandir(folder or ".") as entries:
                infos = [e.path for e in entries if e.name.endswith((".dist-info", ".egg-info"))]
        except NotADirectoryError:
            return None  # a zip archive, which only importlib.metadata can read
        except OSError:
            continue
        for info in infos:
            try:
                kinds.update(header.findall(Path(info, "entry_points.txt").read_bytes()))
            except OSError:
                continue
    return frozenset(kinds)


def installed_plugins() -> tuple[Plugin, ...]:
    """Load the entry points of every kind and return them, failed ones included."""
    return tuple(plugin for kind in KINDS for plugin in load_plugins(kind))
