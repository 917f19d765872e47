"""Write the TypeScript types of the REST answers from the OpenAPI document.

    python tools/page/make_types.py

The type checker then compares the page's JavaScript with the schemas of the service: a key that is renamed
on one side only is an error. `make check-page` runs this first; the result is not committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OPENAPI = HERE.parents[1] / "docs" / "openapi.json"
_SIMPLE = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def typescript_type(schema: dict[str, Any]) -> str:
    """Return a JSON schema as a TypeScript type.

    Example:
        >>> typescript_type({"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]})
        '(number)[] | null'
    """
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema or "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " | ".join(typescript_type(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"({typescript_type(schema.get('items', {}))})[]"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {typescript_type(values) if isinstance(values, dict) else 'any'}>"
    return _SIMPLE.get(str(schema.get("type")), "any")


def typescript_interface(name: str, schema: dict[str, Any]) -> str:
    """Return the schema of an object as a TypeScript interface."""
    required = schema.get("required", ())
    lines = [
        f"  {key}{'' if key in required else '?'}: {typescript_type(value)};"
        for key, value in schema.get("properties", {}).items()
    ]
    return "\n".join([f"interface {name} {{", *lines, "}"])


def main() -> None:
    """Write `rest.d.ts` beside this file."""
    schemas = json.loads(OPENAPI.read_text("utf-8"))["components"]["schemas"]
    parts = ["// Written by make_types.py from docs/openapi.json."]
    parts += [
        typescript_interface(name, schema) for name, schema in schemas.items() if "properties" in schema
    ]
    (HERE / "rest.d.ts").write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
