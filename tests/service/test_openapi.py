"""The OpenAPI document: committed, correct, and readable offline."""

import json
import re
from pathlib import Path

import pytest
from schemathesis.core.result import Ok

from blemish.service.openapi import to_text
from blemish.service.openapi_file import openapi_document

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document(app):
    return app.openapi()


def test_openapi_document_is_the_committed_file(document, client):
    served = client.get("/openapi.json").json()
    assert served == json.loads(to_text(openapi_document()))
    committed = json.loads(COMMITTED.read_text("utf-8"))
    committed["info"]["version"] = document["info"]["version"]  # every release may change that
    assert committed == served, (
        "docs/openapi.json is out of date: python -m blemish.service.openapi_file docs/openapi.json"
    )


def test_openapi_document_references_exist(document):
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"], name


def test_docs_page_loads_no_external_files(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    # the policy allows the style of the page and no other
    import base64
    import hashlib

    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    for code in ("queue-full", "image-truncated"):
        assert f'id="problem-{code}"' in page.text


def test_rest_docs_contain_every_problem():
    from blemish.service.problem_details import CATALOG

    text = (COMMITTED.parent / "rest.md").read_text("utf-8")
    for code, (status, _) in CATALOG.items():
        assert re.search(rf"^\| {status} \|.*`{code}`", text, re.MULTILINE), code


def test_rest_docs_contain_every_route(document):
    text = (COMMITTED.parent / "rest.md").read_text("utf-8")
    for path in document["paths"]:
        if path.startswith("/api/v1/models/"):
            path = "/api/v1/models/{name}"
        assert path in text, path


@pytest.mark.slow
def test_schemathesis_with_many_examples(address):
    """Send thousands of requests that the document allows or forbids; it describes every answer."""
    _run_schemathesis(address, examples=60)


def test_schemathesis_with_few_examples(address):
    _run_schemathesis(address, examples=4)


def _run_schemathesis(address, examples):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
        unsupported_method,
    )

    # Without the check that valid input is accepted: a schema cannot tell an image from other bytes.
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        unsupported_method,
    ]
    example_settings = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    calls = dict.fromkeys(GenerationMode, 0)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        for mode in GenerationMode:
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Unsatisfiable:  # an operation without parameters has no invalid requests
                continue

            try:
                example_settings(given(strategy)(_check(checks, calls, mode)))()
            except Unsatisfiable:
                continue
    assert min(calls.values()) >= 8 * examples


def _check(checks, calls, mode):
    def check(case):
        calls[mode] += 1
        case.call_and_validate(checks=checks)

    return check
