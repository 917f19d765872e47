"""The OpenAPI document, and writing it: `python -m blemish.service.openapi docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from blemish.service import schemas

# They stand in the document although no route returns them as its one model.
_ALSO_DESCRIBED = (schemas.ProblemDocument, schemas.StageLine)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the shapes of streams and refusals, and without what no route answers with."""
    parts = document.setdefault("components", {}).setdefault("schemas", {})
    for shape in _ALSO_DESCRIBED:
        schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
        parts.update(schema.pop("$defs", {}))
        parts[shape.__name__] = schema
    for methods in document.get("paths", {}).values():
        for operation in methods.values():
            answers = operation.get("responses", {})
            for status, answer in list(answers.items()):
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                if schema.get("$ref", "").endswith("/HTTPValidationError"):
                    del answers[status]
    for unused in ("HTTPValidationError", "ValidationError"):
        parts.pop(unused, None)
    return document


def document() -> dict[str, Any]:
    """The document of the service, whatever its models."""
    from blemish.service.app import assemble
    from blemish.service.inference_service import InferenceService
    from blemish.service.service_metrics import ServiceMetrics
    from blemish.service.settings import Settings

    return assemble(InferenceService({}, Settings(), ServiceMetrics())).openapi()


def text(document: dict[str, Any]) -> str:
    """The document as it is committed."""
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(document()), "utf-8")
