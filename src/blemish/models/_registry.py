"""The registry: every architecture by its name.

A new architecture is one file in this folder and one `@register(...)` on the function that builds it. The
command line, the documentation's table, the shared tests and the export read this registry.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from blemish.errors import BadRecipe, UnknownName, WrongTask
from blemish.structures import Task

if TYPE_CHECKING:
    from blemish.models._network import Network

Build = TypeVar("Build", bound=Callable[..., "Network"])

_architectures: dict[str, Architecture] = {}
_read = False


@dataclass(frozen=True)
class Architecture:
    """One registered architecture, or a family of them under one pattern.

    Attributes:
        name: registry name, or a pattern such as `timm/*`.
        build: called with `name`, `task`, `label_count` and the options; the network has random weights.
        tasks: what it can be asked.
        summary: one line for people.
        licence: of the architecture's code.
        weights_licence: of the weights that `default` stands for; empty where there are none.
        input_size_hw: what its first input takes where the recipe says nothing, pixels.
        smallest: whether it stands for its family in the quick tests.
        example: a name that the pattern stands for, for tests and documentation; the name itself where it
            is no pattern.
        extra: the part of Blemish it needs beyond `train`, or "".
        default_weights: finds or downloads the files that `default` stands for; None where there are none.
        weight_options: names of options that it takes as keywords, where a recipe gives them.
    """

    name: str
    build: Callable[..., Network]
    tasks: tuple[Task, ...]
    summary: str
    licence: str
    weights_licence: str = ""
    input_size_hw: tuple[int, int] = (224, 224)
    smallest: bool = False
    example: str = ""
    extra: str = ""
    default_weights: Callable[..., tuple[Path, ...]] | None = None
    weight_options: tuple[str, ...] = ()

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for many."""
        return "*" in self.name


def register(
    *names: str,
    tasks: Iterable[Task | str],
    summary: str,
    licence: str,
    weights_licence: str = "",
    input_size: int | tuple[int, int] = 224,
    smallest: str = "",
    example: str = "",
    extra: str = "",
    default_weights: Callable[..., tuple[Path, ...]] | None = None,
    weight_options: tuple[str, ...] = (),
) -> Callable[[Build], Build]:
    """A decorator that makes a building function known under `names`.

    The function takes `(name, *, task, label_count, **options)`; its options are keywords of its own.

    Args:
        names: each a name, or a pattern that ends with `*`.
        tasks: what the architecture can be asked.
        summary: one line for people.
        licence: of the code.
        weights_licence: of the weights that `default` stands for.
        input_size: pixels, square or (height, width).
        smallest: which of `names` stands for the family in the quick tests; the first by default, and
            `none` where another registration of the family does.
        example: for a pattern, a small architecture that it stands for.
        extra: the part of Blemish it needs beyond `train`.
        default_weights: takes the name, gives the files that `default` stands for.
        weight_options: names of options that `default_weights` takes as keywords, where a recipe gives them.
    """
    size_hw = (input_size, input_size) if isinstance(input_size, int) else input_size

    def remember(build: Build) -> Build:
        for name in names:
            _architectures[name] = Architecture(
                name=name,
                build=build,
                tasks=tuple(Task(t) for t in tasks),
                summary=summary,
                licence=licence,
                weights_licence=weights_licence,
                input_size_hw=size_hw,
                smallest=name == (smallest or names[0]),
                example=example or name,
                extra=extra,
                default_weights=default_weights,
                weight_options=weight_options,
            )
        return build

    return remember


def architectures() -> Iterator[Architecture]:
    """Every registered architecture, patterns included, by name."""
    _read_families()
    yield from (_architectures[name] for name in sorted(_architectures))


def families() -> list[list[Architecture]]:
    """Every registered architecture, those that differ only in size together."""
    together: dict[tuple[object, ...], list[Architecture]] = {}
    for found in architectures():
        together.setdefault((found.summary, found.tasks, found.licence, found.extra), []).append(found)
    return list(together.values())


def names() -> tuple[str, ...]:
    """Every registered name and pattern, ascending."""
    return tuple(a.name for a in architectures())


def describe(name: str) -> Architecture:
    """What is registered under `name`, a pattern's entry included.

    Raises:
        UnknownName: nothing is; the message offers the nearest.
    """
    _read_families()
    found = _architectures.get(name)
    if found is None or found.is_pattern:
        found = next((a for a in _architectures.values() if a.is_pattern and fnmatchcase(name, a.name)), None)
    if found is None or name.endswith("*"):
        raise UnknownName("architecture", name, names())
    return found


def create(name: str, *, task: Task | str, label_count: int, **options: Any) -> Network:
    """A network with random weights.

    Args:
        name: registry name.
        task: what it is asked.
        label_count: how many labels; 0 only for a localization set without labels.
        options: the architecture's own, such as `input_size=128` or `head=HeadSpec(...)`.

    Raises:
        UnknownName: no such architecture.
        WrongTask: it does not answer this task.
        BadRecipe: an option it does not take.

    Example:
        >>> network = create("resnet18", task="classification", label_count=2, input_size=64)
        >>> network.inputs[0].size_hw
        (64, 64)
    """
    found = describe(name)
    task = Task(task)
    if task not in found.tasks:
        can = ", ".join(found.tasks)
        able = [a.name for a in architectures() if task in a.tasks]
        raise WrongTask(f"{name} answers {can}, not {task}; for {task} take one of: {', '.join(able[:8])}")
    _check_options(found, options)
    return found.build(name, task=task, label_count=label_count, **options)


def _check_options(architecture: Architecture, options: dict[str, Any]) -> None:
    import inspect

    parameters = inspect.signature(architecture.build).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [p for p in parameters if p not in ("name", "task", "label_count")]
    for option in options:
        if option not in known:
            from blemish.errors import suggestion

            raise BadRecipe(f"{architecture.name} has no option {option!r}{suggestion(option, known)}")


def _read_families() -> None:
    """Import every file of this folder once, so that each registers what it builds."""
    global _read
    if _read:
        return
    import blemish.models.architectures as folder

    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    _read = True
