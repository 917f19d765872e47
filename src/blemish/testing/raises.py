"""`raises`: assert that a block raises a Blemish error of one code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blemish.errors import BlemishError


class CaughtError:
    """What `raises` caught.

    Attributes:
        value: the error, available after the block; a `BlemishError` of the class that its code belongs to.
    """

    value: Any  # type checkers do not know the class of a code

    @property
    def message(self) -> str:
        """The error's message."""
        return str(self.value)


@contextmanager
def raises(code: str, *mentions: object) -> Iterator[CaughtError]:
    """Assert that the block raises a `BlemishError` with exactly this code.

    Args:
        code: such as "bad-recipe.unknown-key".
        mentions: facts that the message must contain, such as a file name, a line number or an option; not
            prose.

    Yields:
        An object whose `value` is the error after the block.

    Raises:
        AssertionError: nothing was raised, another code was raised, or a fact is missing.

    Example:
        >>> from blemish.errors import BadRecipe
        >>> with raises("bad-recipe.unknown-key", "epochz"):
        ...     raise BadRecipe("unknown key 'epochz'", reason="unknown-key")
    """
    caught = CaughtError()
    try:
        yield caught
    except BlemishError as error:
        caught.value = error
    else:
        raise AssertionError(f"nothing was raised; expected the code {code!r}")
    if caught.value.code != code:
        raise AssertionError(
            f"expected the code {code!r}, got {caught.value.code!r}: {caught.value}"
        ) from caught.value
    for fact in mentions:
        if str(fact) not in caught.message:
            raise AssertionError(
                f"the message does not mention {str(fact)!r}: {caught.value}"
            ) from caught.value
