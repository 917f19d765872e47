"""The JSON that commands print on standard output: an API with a schema version.

With `--json`, a command prints documents of this form, one or one per line, and nothing else:

    {"schema_version": 1, ...}
    {"schema_version": 1, "error": {"code": "bad-recipe.unknown-key", "message": "..."}}

`schema_version` increases when a key is removed, renamed or given another meaning; a new key does not
change it. Messages, warnings and progress go to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from blemish.errors import BlemishError

SCHEMA_VERSION = 1


def json_document(fields: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return a document with the schema version first.

    Args:
        fields: what the document contains; NaN and infinity are refused.
        indent: spaces per level; None writes one line.

    Example:
        >>> json_document({"images": 3})
        '{"schema_version": 1, "images": 3}'
    """
    return json.dumps({"schema_version": SCHEMA_VERSION, **fields}, indent=indent, allow_nan=False)


def print_json(fields: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Print a document with the schema version on standard output, followed by a line feed."""
    sys.stdout.write(json_document(fields, indent=indent) + "\n")


def error_fields(code: str, message: str) -> dict[str, Any]:
    """Return the `error` field of a document.

    Example:
        >>> error_fields("no-network", "the hub did not answer")
        {'error': {'code': 'no-network', 'message': 'the hub did not answer'}}
    """
    return {"error": {"code": code, "message": message}}


def fields_of_error(error: Exception) -> dict[str, Any]:
    """Return the `error` field for an exception: with its own code, or "error" if it has none."""
    code = error.code if isinstance(error, BlemishError) else "error"
    return error_fields(code, str(error))
