"""API keys: kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from blemish.errors import BadInput

_LINE = re.compile(r"(?P<name>[\w.-]{1,64})\s+(?P<digest>[0-9a-f]{64})")


class ApiKeys:
    """The keys that are let in, by the SHA-256 of each.

    A key is 256 random bits, so a plain hash is enough: there is nothing to guess.
    """

    def __init__(self, digests: dict[str, str]) -> None:
        """Take name: SHA-256 hex."""
        self._digests = {name: bytes.fromhex(digest) for name, digest in digests.items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, key: str) -> str | None:
        """Whose `key` this is, or None; always as slow as it is for the last of them."""
        digest = hashlib.sha256(key.encode()).digest()
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    @classmethod
    def from_file(cls, path: Path) -> ApiKeys:
        """The keys of a file with a line `NAME SHA256` each; empty lines and `#` are skipped.

        Raises:
            BadInput: a line is neither, a name stands twice, or there is no key at all.
        """
        digests: dict[str, str] = {}
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: the file of API keys cannot be read") from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise BadInput(
                    f"{path}:{number}: expected NAME SHA256, as blemish serve --new-api-key NAME prints it"
                )
            if match["name"] in digests:
                raise BadInput(f"{path}:{number}: the name {match['name']!r} stands twice")
            digests[match["name"]] = match["digest"]
        if not digests:
            raise BadInput(f"{path}: no API key in it; blemish serve --new-api-key NAME prints one")
        return cls(digests)


def new_key(name: str) -> tuple[str, str]:
    """A new key, and the line of it that the file of keys takes.

    Raises:
        BadInput: the name is not of letters, digits, `-`, `_` and `.`.
    """
    key = f"blemish_{secrets.token_urlsafe(32)}"
    line = f"{name} {hashlib.sha256(key.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise BadInput(f"{name!r} is no name for a key: take letters, digits, '-', '_' and '.', at most 64")
    return key, line


def key_of(headers: dict[str, str]) -> str | None:
    """The key a request carries, or None.

    Args:
        headers: by lower-case name.
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.casefold() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key", "").strip() or None
