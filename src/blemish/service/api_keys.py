"""API keys: stored as hashes, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from blemish.errors import BadInput

SCOPES = ("read", "write", "review", "admin")
_DEFAULT_SCOPES = frozenset(("read", "write", "review"))
_LINE = re.compile(r"(?P<name>[\w.-]{1,64})\s+(?P<digest>[0-9a-f]{64})(?:\s+(?P<scopes>[a-z,]+))?")


class ApiKeys:
    """The accepted API keys, by the SHA-256 of each.

    A key is 256 random bits, so a plain hash is enough: there is nothing to guess.
    """

    def __init__(
        self, digests: Mapping[str, str], scopes: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        """Accept the keys with these digests.

        Args:
            digests: SHA-256 as 64 hex digits, by the name of the key.
            scopes: what keys may do in the store of inspections, by their names; default: read, write and
                review.
        """
        self._scopes = dict(scopes or {})
        self._digests = {name: bytes.fromhex(digest) for name, digest in digests.items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, key: str) -> str | None:
        """Return the name of `key`, or None if it is unknown, in a time that is the same for every key."""
        digest = hashlib.sha256(key.encode()).digest()
        match = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                match = name
        return match

    def scopes(self, name: str) -> frozenset[str]:
        """Return the scopes of the key with this name."""
        return self._scopes.get(name, _DEFAULT_SCOPES)

    @classmethod
    def from_file(cls, path: Path) -> ApiKeys:
        """Return the keys of a file with one line `NAME SHA256 [SCOPE,...]` for each.

        Empty lines and `#` are skipped. Scopes are read, write, review and admin.

        Raises:
            BadInput: the file cannot be read or contains no key, a line has another form, or a name is used
                twice.
        """
        digests: dict[str, str] = {}
        scopes: dict[str, frozenset[str]] = {}
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: the file of API keys cannot be read", reason="api-keys") from error
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise BadInput(
                    f"{path}, line {number}: expected NAME SHA256, as printed by "
                    "blemish serve --new-api-key NAME",
                    reason="api-keys",
                )
            if match["name"] in digests:
                raise BadInput(
                    f"{path}, line {number}: the name {match['name']!r} is used twice", reason="api-keys"
                )
            digests[match["name"]] = match["digest"]
            if match["scopes"] is not None:
                scopes[match["name"]] = frozenset(match["scopes"].split(","))
                if not scopes[match["name"]] <= set(SCOPES):
                    raise BadInput(
                        f"{path}, line {number}: expected {', '.join(SCOPES)}, got {match['scopes']!r}",
                        reason="api-key-scopes",
                    )
        if not digests:
            raise BadInput(
                f"{path}: expected at least one API key, got none. "
                "blemish serve --new-api-key NAME prints one.",
                reason="api-keys",
            )
        return cls(digests, scopes)


def new_key(name: str) -> tuple[str, str]:
    """Return a new key, and its line for the file of API keys.

    Args:
        name: 1 to 64 letters, digits, `-`, `_` and `.`.

    Raises:
        BadInput: the name has other characters or another length.
    """
    key = f"blemish_{secrets.token_urlsafe(32)}"
    line = f"{name} {hashlib.sha256(key.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise BadInput(
            f"--new-api-key: expected 1 to 64 letters, digits, '-', '_' and '.', got {name!r}",
            reason="api-key-name",
        )
    return key, line


def key_from_headers(headers: Mapping[str, str]) -> str | None:
    """Return the API key of a request: a bearer token, `X-API-Key`, or the password of basic authentication.

    Args:
        headers: header values by lower-case name.
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.casefold() == "bearer" and key.strip():
        return key.strip()
    if scheme.casefold() == "basic":
        try:
            return base64.b64decode(key.strip(), validate=True).decode("utf-8").partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return headers.get("x-api-key", "").strip() or None
