"""Checks of data sets: pure functions, registered under dotted ids, that third-party packages can add to.

A check receives the data set and the facts that checks share, and yields findings:

    @register("acme.serial-number", codes=("missing-serial-number",))
    def check_serial_numbers(dataset: Dataset, context: CheckContext) -> Iterator[Finding]:
        \"\"\"Images without the serial number of the module.\"\"\"
        for sample in dataset.samples:
            if sample.group is None:
                yield Finding("missing-serial-number", Severity.WARNING, "it has no group", sample.path)

A third-party package declares an entry point that names the module with such a function:

    [project.entry-points."blemish.checks"]
    serial-numbers = "acme.checks"

`blemish data check` runs it with the built-in checks, and `--only` and `--skip` select it by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from blemish.data.check_context import CheckContext
from blemish.data.findings import Finding
from blemish.errors import UnknownName
from blemish.registry import Registry
from blemish.structures import Dataset

CheckFunction = Callable[[Dataset, CheckContext], Iterable[Finding]]
GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Check:
    """One registered check.

    Attributes:
        id: dotted id: the subject, a dot, and the fault, such as "images.missing".
        run: returns the findings.
        codes: the codes of its findings. Faults of these codes that the reader of a format reported count as
            findings of this check.
        description: the faults that it finds, as a noun phrase.
    """

    id: str
    run: CheckFunction
    codes: tuple[str, ...]
    description: str


CHECKS: Registry[Check] = Registry("checks", noun="check", builtin=__name__)


def register(check_id: str, *, codes: tuple[str, ...]) -> Callable[[CheckFunction], CheckFunction]:
    """Return a decorator that registers a check; the first line of the docstring is its description.

    Args:
        check_id: the id that users write: the subject, a dot, and the fault, such as "images.missing".
        codes: the codes of its findings.

    Raises:
        DuplicateName: another module has registered `check_id`.
    """

    def decorate(function: CheckFunction) -> CheckFunction:
        description = (function.__doc__ or "").strip().partition("\n")[0]
        check = Check(check_id, function, codes, description)
        CHECKS.register(check_id, check, module=function.__module__)
        return function

    return decorate


def select_checks(only: Iterable[str] = (), skip: Iterable[str] = ()) -> tuple[Check, ...]:
    """Return the checks that a selection names, in order of registration.

    Args:
        only: ids or glob patterns of the checks to run, such as "images.*"; default: all.
        skip: ids or glob patterns of the checks to leave out.

    Raises:
        UnknownName: an id that does not exist, or a pattern that matches none.

    Example:
        >>> [check.id for check in select_checks(only=["copies.*"], skip=["copies.near"])]
        ['copies.across-splits', 'copies.contradicting-labels', 'copies.exact']
    """
    ids = CHECKS.names()
    included = _matching_ids(only, ids) if (only := tuple(only)) else set(ids)
    excluded = _matching_ids(skip, ids)
    return tuple(check for check_id, check in CHECKS.items() if check_id in included - excluded)


def _matching_ids(patterns: Iterable[str], ids: tuple[str, ...]) -> set[str]:
    matching: set[str] = set()
    for pattern in patterns:
        if GLOB_CHARACTERS & set(pattern):
            matched = {check_id for check_id in ids if fnmatchcase(check_id, pattern)}
        else:
            matched = {pattern} & set(ids)
        if not matched:
            raise UnknownName("check", pattern, ids)
        matching |= matched
    return matching
