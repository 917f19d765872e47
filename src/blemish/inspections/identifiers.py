"""Identifiers and times of the store."""

from __future__ import annotations

import re
import secrets
import threading
import time
from datetime import UTC, datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PATTERN = re.compile(f"[{_ALPHABET}]{{26}}")
_RANDOM_BITS = 80
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return a new ULID; those of one process ascend.

    Source:
        ULID specification: 48 bits of milliseconds, 80 random bits, Crockford's base 32.
    """
    global _last
    with _lock:
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS - 1)
        _last = max(fresh, _last + 1)
        value = _last
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str) -> bool:
    """Return whether a text has the form of an identifier.

    Example:
        >>> is_id("01ARZ3NDEKTSV4RRFFQ69G5FAV"), is_id("../secrets")
        (True, False)
    """
    return _PATTERN.fullmatch(text) is not None


def now() -> str:
    """Return the current time, UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
