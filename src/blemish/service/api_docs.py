"""`/docs`: the OpenAPI document as one page of plain HTML, without scripts and without external files."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.responses import HTMLResponse, JSONResponse, Response

from blemish.service.problem_details import CATALOG

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentcolor 22%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 2rem 0 .25rem; font-size: 1rem; } code, pre { font: .875rem/1.45 ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td, th { text-align: left; vertical-align: top;
padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); font-size: .875rem; }
.method { font-weight: 700; } details { margin: .25rem 0; } p { margin: .25rem 0; }
""".strip()
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def docs_router(app: FastAPI) -> APIRouter:
    """Return the routes `/docs` and `/openapi.json`, which describe the routes of `app`."""
    router = APIRouter()

    @router.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        return JSONResponse(app.openapi())

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = render_html(app.openapi())
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})

    return router


def render_html(document: dict[str, Any]) -> str:
    """Return an OpenAPI document as HTML."""
    info = document["info"]
    head = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}: REST</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('summary', ''))}</p>"
        '<p><a href="/openapi.json">openapi.json</a> has the same content for programs.</p><h2>Routes</h2>'
    )
    parts = [head]
    for path, methods in document["paths"].items():
        parts += [_operation(path, method, operation) for method, operation in methods.items()]
    parts.append("<h2>Schemas</h2>")
    schemas = document.get("components", {}).get("schemas", {})
    parts += [_schema(name, schema) for name, schema in sorted(schemas.items())]
    parts.append("<h2>Problems</h2><table><tr><th>status<th>code<th>title</tr>")
    parts += [
        f'<tr id="problem-{code}"><td>{status}<td><code>{code}</code><td>{escape(title)}</tr>'
        for code, (status, title) in CATALOG.items()
    ]
    return "".join(parts) + "</table></html>"


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    out = (
        f'<h3><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h3>'
        f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
    )
    rows = [
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{_type(p.get('schema', {}))}"
        f"<td>{escape(p.get('description', ''))}</tr>"
        for p in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {}).get("content", {})
    rows += [
        f"<tr><td>body<td>{escape(media_type)}<td><td>{escape(_description(content))}</tr>"
        for media_type, content in body.items()
    ]
    if rows:
        out += "<table><tr><th>name<th>in<th>type<th>meaning</tr>" + "".join(rows) + "</table>"
    responses = []
    for status, response in operation.get("responses", {}).items():
        contents = response.get("content", {}).items()
        text = "<br>".join(f"{escape(name)} {_type(content.get('schema', {}))}" for name, content in contents)
        responses.append(f"<tr><td>{escape(status)}<td>{text}</tr>")
    return out + "<details><summary>Responses</summary><table>" + "".join(responses) + "</table></details>"


def _description(content: dict[str, Any]) -> str:
    return str(content.get("schema", {}).get("description", ""))


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(key)}</code><td>{_type(value)}<td>{escape(value.get('description', ''))}</tr>"
        for key, value in schema.get("properties", {}).items()
    ]
    head = f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>'
    return f"{head}<p>{escape(schema.get('description', ''))}</p><table>{''.join(rows)}</table>"


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a value as HTML, with a link to its schema."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type", "")))
