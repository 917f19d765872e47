"""The OpenAPI document as a file: `python -m blemish.service.openapi_file docs/openapi.json` writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from blemish.service.app import build_app
from blemish.service.inference_service import InferenceService
from blemish.service.openapi import to_text
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings


def openapi_document() -> dict[str, Any]:
    """Return the document of the service; it does not depend on the models."""
    return build_app(InferenceService({}, Settings(), ServiceMetrics())).openapi()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(to_text(openapi_document()), "utf-8")
