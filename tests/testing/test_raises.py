"""`blemish.testing.raises`."""

import pytest

from blemish.errors import BadRecipe
from blemish.testing import raises


def test_raises_accepts_the_code_and_the_facts():
    with raises("bad-recipe.unknown-key", "epochz") as caught:
        raise BadRecipe("unknown key 'epochz'", reason="unknown-key")
    assert caught.message == "unknown key 'epochz'"


@pytest.mark.parametrize("code, facts", [("bad-recipe", ()), ("bad-recipe.unknown-key", ("learning_rate",))])
def test_raises_fails_on_another_code_or_a_missing_fact(code, facts):
    with pytest.raises(AssertionError), raises(code, *facts):
        raise BadRecipe("unknown key 'epochz'", reason="unknown-key")


def test_raises_fails_when_nothing_is_raised():
    with pytest.raises(AssertionError), raises("bad-recipe"):
        pass


def test_raises_lets_other_exceptions_through():
    with pytest.raises(KeyError), raises("bad-recipe"):
        raise KeyError("x")
