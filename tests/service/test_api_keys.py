"""API keys: their file, and the headers that carry them."""

import pytest

from blemish.service.api_keys import ApiKeys, key_from_headers, new_key
from blemish.testing import raises


def test_api_keys_from_file(tmp_path):
    key, line = new_key("claims")
    other, second = new_key("fleet")
    path = tmp_path / "keys"
    path.write_text(f"# keys\n\n{line}\n  {second}  \n")
    keys = ApiKeys.from_file(path)
    assert keys.owner(key) == "claims"
    assert keys.owner(other) == "fleet"
    assert keys.owner(key + "x") is None
    assert key not in path.read_text()


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("claims plaintext\n", ("line 1", "NAME SHA256")),
        ("", ("--new-api-key",)),
        (f"a {'0' * 64}\na {'1' * 64}\n", ("line 2", "'a'")),
    ],
)
def test_api_keys_from_file_names_the_bad_line(tmp_path, text, facts):
    path = tmp_path / "keys"
    path.write_text(text)
    with raises("bad-input.api-keys", path, *facts):
        ApiKeys.from_file(path)


def test_api_keys_from_missing_file(tmp_path):
    with raises("bad-input.api-keys", tmp_path / "nothing"):
        ApiKeys.from_file(tmp_path / "nothing")


def test_new_key_with_a_bad_name():
    with raises("bad-input.api-key-name", "'a b'"):
        new_key("a b")


def test_key_from_headers():
    assert key_from_headers({"authorization": "Bearer abc"}) == "abc"
    assert key_from_headers({"authorization": "bearer  abc "}) == "abc"
    assert key_from_headers({"x-api-key": " abc"}) == "abc"
    assert key_from_headers({"authorization": "Basic abc"}) is None
    assert key_from_headers({"authorization": "Basic dXNlcjphYmM="}) == "abc"
    assert key_from_headers({}) is None
