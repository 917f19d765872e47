"""Completion of the OpenAPI document that FastAPI builds."""

from __future__ import annotations

import json
from typing import Any

from blemish.service import schemas

# Schemas that no route returns as its only model.
_ADDITIONAL = (schemas.ProblemDocument, schemas.StageLine)
_UNUSED = ("HTTPValidationError", "ValidationError")


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's document with the schemas of streams and problems, and without answers never given.

    Args:
        document: the document of `FastAPI.openapi`; it is changed in place.
    """
    components = document.setdefault("components", {}).setdefault("schemas", {})
    for model in _ADDITIONAL:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(schema.pop("$defs", {}))
        components[model.__name__] = schema
    for methods in document.get("paths", {}).values():
        for operation in methods.values():
            responses = operation.get("responses", {})
            for status, response in list(responses.items()):
                schema = response.get("content", {}).get("application/json", {}).get("schema", {})
                if schema.get("$ref", "").endswith("/HTTPValidationError"):
                    del responses[status]
    for name in _UNUSED:
        components.pop(name, None)
    return document


def to_text(document: dict[str, Any]) -> str:
    """Return a document as the text of `docs/openapi.json`."""
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
