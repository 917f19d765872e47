"""The OpenAPI document: committed, true, and readable without the internet."""

import json
import re
from pathlib import Path

import pytest

from blemish.service import openapi

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document(app):
    return app.openapi()


def test_the_committed_document_is_the_one_that_is_served(document, client):
    served = client.get("/openapi.json").json()
    assert served == json.loads(openapi.text(openapi.document()))
    committed = json.loads(COMMITTED.read_text("utf-8"))
    committed["info"]["version"] = document["info"]["version"]  # every release may change that
    assert committed == served, (
        "docs/openapi.json is out of date: python -m blemish.service.openapi docs/openapi.json"
    )


def test_every_reference_in_it_leads_somewhere(document):
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"], name


def test_docs_load_nothing_from_anywhere(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    # the style that stands in the page is the one the policy lets in
    import base64
    import hashlib

    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    for code in ("queue_full", "image_truncated"):
        assert f'id="problem-{code}"' in page.text


def test_every_problem_is_in_the_contract():
    from blemish.service.problem_details import CATALOGUE

    text = (COMMITTED.parent / "rest.md").read_text("utf-8")
    for code, (status, _) in CATALOGUE.items():
        assert re.search(rf"^\| {status} \|.*`{code}`", text, re.MULTILINE), code


def test_every_route_is_in_the_contract(document):
    text = (COMMITTED.parent / "rest.md").read_text("utf-8")
    for path in document["paths"]:
        if path.startswith("/api/v1/models/"):
            path = "/api/v1/models/{name}"
        assert path in text, path


@pytest.mark.slow
def test_schemathesis_finds_nothing(address):
    """Thousands of requests made from the document; every answer is one the document has."""
    _run_schemathesis(address, examples=60)


def test_schemathesis_finds_nothing_at_first_sight(address):
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

    # Not asked: that valid input is accepted, because to a schema any bytes are an image.
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        unsupported_method,
    ]
    calm = settings(
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
        operation = result.ok()
        for mode in GenerationMode:
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Unsatisfiable:  # an operation without parameters cannot be called wrongly
                continue

            try:
                calm(given(strategy)(_check(checks, calls, mode)))()
            except Unsatisfiable:
                continue
    assert min(calls.values()) >= 8 * examples


def _check(checks, calls, mode):
    def check(case):
        calls[mode] += 1
        case.call_and_validate(checks=checks)

    return check
