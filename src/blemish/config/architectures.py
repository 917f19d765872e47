"""The registry of architectures: name, tasks, license, options and builder of each. Torch-free.

An entry names its builder as "module:function", and that module is imported when a network is built. Listing
the architectures and checking a recipe against them therefore takes milliseconds. The built-in entries are
in `blemish.config.catalog`; a plug-in registers its own through an entry point in the group
`blemish.architectures`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from blemish.config.architecture_options import ArchitectureOptions, check_option_names
from blemish.errors import UnknownName, WrongTask
from blemish.registry import Registry
from blemish.structures import Task

Function = TypeVar("Function", bound=Callable[..., Any])
WeightFinder = Callable[..., tuple[Path, ...]]

BUILDER_PARAMETERS = ("name", "task", "label_count", "options")  # of every builder; all others are options


@dataclass(frozen=True)
class Architecture:
    """One registered architecture, or all those whose names match a pattern.

    Attributes:
        name: the registered name, or a pattern such as `timm/*`.
        builder: a function, or "module:function", that returns a network with random weights; see `register`.
        tasks: the tasks that it can be built for.
        summary: one line for users.
        license: of the architecture's code.
        weights_license: of the default weights; "" if there are none.
        copyleft: whether `license` obliges users of a program or service to publish its source.
        input_size_hw: default height and width of the first input, in pixels.
        smallest: whether it represents its family in the quick tests.
        example: a name that matches the pattern, for tests and documentation; `name` itself if it is no
            pattern.
        extra: the optional dependency group that it needs in addition to `train`, or "".
        options: the class of its options; None if the builder declares them as keyword parameters.
        weight_finder: a function, or "module:function", that returns the files of the default weights; None
            if there are none.
        imported_options: options of weights from elsewhere (`blemish import`) unless the user sets others.
        preset: the built-in preset that it is trained with if no recipe is given, or "".
    """

    name: str
    builder: str | Callable[..., Any]
    tasks: tuple[Task, ...]
    summary: str
    license: str
    weights_license: str = ""
    copyleft: bool = False
    input_size_hw: tuple[int, int] = (224, 224)
    smallest: bool = False
    example: str = ""
    extra: str = ""
    options: type[ArchitectureOptions] | None = None
    weight_finder: str | WeightFinder | None = None
    imported_options: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a pattern that matches many names."""
        return "*" in self.name

    def load_builder(self) -> Callable[..., Any]:
        """Return the builder; its module is imported now."""
        return _load(self.builder)

    def option_names(self) -> tuple[str, ...] | None:
        """Return the names of the options that the builder takes; None if it takes any (`**options`)."""
        if self.options is not None:
            return tuple(self.options.model_fields)
        return _keyword_names(self.load_builder(), BUILDER_PARAMETERS)

    def check_options(self, options: Iterable[str], *, keys: Mapping[str, str] | None = None) -> None:
        """Refuse options that the builder does not take.

        Args:
            options: option names.
            keys: by option name, the recipe key that sets it, such as "data.white_level", for the message.

        Raises:
            BadRecipe: the builder takes no such option ("bad-recipe.unknown-option"); the message names the
                option, the architecture and the nearest option.
        """
        known = self.option_names()
        if known is not None:
            check_option_names(self.name, options, known, keys)

    def check_task(self, task: Task) -> None:
        """Refuse a task that the architecture cannot be built for.

        Raises:
            WrongTask: the message lists architectures that can.
        """
        if task in self.tasks:
            return
        others = [a.example for a in all_architectures() if task in a.tasks and a.smallest]
        raise WrongTask(
            f"architecture {self.name} supports {', '.join(self.tasks)}, not {task}; "
            f"for {task} use for example {', '.join(others[:8])}"
        )

    def default_weight_files(self, name: str, options: Mapping[str, Any]) -> tuple[Path, ...]:
        """Return the files of the default weights, downloaded if they are not in a cache.

        Args:
            name: the architecture's name; for a pattern, the name that matched it.
            options: the options of the recipe; those that the finder takes as keyword parameters are passed
                to it, because another backbone or encoder has other weights.

        Raises:
            NoNetwork: a file has to be downloaded and cannot be.
            BadWeights: no weights are published.
        """
        if self.weight_finder is None:
            return ()
        find = _load(self.weight_finder)
        names = _keyword_names(find, ("name",)) or ()
        files: tuple[Path, ...] = find(name, **{n: options[n] for n in names if options.get(n) is not None})
        return files


ARCHITECTURES: Registry[Architecture] = Registry(
    "architectures", noun="architecture", builtin="blemish.config.catalog"
)


def register(
    *names: str,
    tasks: Iterable[Task | str],
    summary: str,
    license: str,  # noqa: A002  (the field's word)
    builder: str | None = None,
    options: type[ArchitectureOptions] | None = None,
    weights_license: str = "",
    copyleft: bool = False,
    input_size: int | tuple[int, int] = 224,
    smallest: str | None = "",
    example: str = "",
    extra: str = "",
    weight_finder: str | WeightFinder | None = None,
    imported_options: Mapping[str, Any] | None = None,
    preset: str = "",
) -> Callable[[Function], Function]:
    """Register a builder under one or more names.

    With `builder="module:function"` the entry is complete, and torch is imported when a network is built.
    Without it, the result is a decorator for the builder.

    The builder is called as `builder(name, task=…, label_count=…, **options)`, or with one argument
    `options=` if an options class is given. It returns a `blemish.models.Network` with random weights.
    Every option that a recipe sets reaches it; an option that it does not declare is refused. It therefore
    declares `mean`, `std`, `resize`, `resize_to`, `head` or `white_level` if recipes may set them.

    Args:
        names: names, or patterns that end with `*`.
        tasks: the tasks that the builder supports.
        summary: one line for users.
        license: of the code.
        builder: "module:function".
        options: the class of the options.
        weights_license: of the default weights.
        copyleft: whether `license` obliges users of a program or service to publish its source.
        input_size: default size of the first input in pixels, square or (height, width).
        smallest: which of `names` represents the family in the quick tests; "" for the first, None if another
            registration of the family does.
        example: for a pattern, a small architecture that matches it.
        extra: the optional dependency group that the builder needs in addition to `train`.
        weight_finder: a function, or "module:function", from a name to the files of the default weights; its
            keyword parameters receive the options of the same name.
        imported_options: options of weights from elsewhere, such as the filter that resized the images that
            they were trained on.
        preset: name of the built-in preset for trainings without a recipe; see `blemish config list`.

    Raises:
        DuplicateName: another module has registered one of the names.

    Example:
        >>> decorate = register(
        ...     "doc-net", tasks=["classification"], summary="example", license="MIT", builder="my.net:build"
        ... )
        >>> describe("doc-net").tasks
        ('classification',)
        >>> ARCHITECTURES.unregister("doc-net")
    """
    size_hw = (input_size, input_size) if isinstance(input_size, int) else input_size

    def add(target: str | Callable[..., Any]) -> None:
        module = target.partition(":")[0] if isinstance(target, str) else target.__module__
        for name in names:
            entry = Architecture(
                name=name,
                builder=target,
                tasks=tuple(Task(t) for t in tasks),
                summary=summary,
                license=license,
                weights_license=weights_license,
                copyleft=copyleft,
                input_size_hw=size_hw,
                smallest=smallest is not None and name == (smallest or names[0]),
                example=example or name,
                extra=extra,
                options=options,
                weight_finder=weight_finder,
                imported_options=dict(imported_options or {}),
                preset=preset,
            )
            ARCHITECTURES.register(name, entry, module=module)

    if builder is not None:
        add(builder)

    def decorate(function: Function) -> Function:
        add(function)
        return function

    return decorate


def all_architectures() -> Iterator[Architecture]:
    """Yield every registered architecture, patterns included, in order of names."""
    for _, architecture in sorted(ARCHITECTURES.items()):
        yield architecture


def families() -> list[list[Architecture]]:
    """Return the registered architectures in groups: members of a family differ in size only."""
    groups: dict[tuple[object, ...], list[Architecture]] = {}
    for architecture in all_architectures():
        key = (architecture.summary, architecture.tasks, architecture.license, architecture.extra)
        groups.setdefault(key, []).append(architecture)
    return list(groups.values())


def names() -> tuple[str, ...]:
    """Return every registered name and pattern, sorted."""
    return tuple(architecture.name for architecture in all_architectures())


def describe(name: str) -> Architecture:
    """Return the architecture of a name; for a name that matches a pattern, with that name filled in.

    Raises:
        UnknownName: no entry has this name or matches it; the message offers the nearest name.
    """
    if name in ARCHITECTURES and "*" not in name:
        return ARCHITECTURES.get(name)
    pattern = next((a for a in all_architectures() if a.is_pattern and fnmatchcase(name, a.name)), None)
    if pattern is None or "*" in name:
        raise UnknownName("architecture", name, names())
    return replace(pattern, name=name)


def _load(target: str | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    return function


def _keyword_names(function: Callable[..., Any], fixed: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the parameters that can be passed by keyword, without the `fixed` ones; None for `**kwargs`."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(p.name for p in parameters if p.kind in by_keyword and p.name not in fixed)
