"""What every request passes on its way in and out: an id, a key, safe headers, a count, and no traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blemish.service.api_keys import ApiKeys, key_of
from blemish.service.problem_details import MEDIA_TYPE, Problem, internal
from blemish.service.service_metrics import ServiceMetrics

log = logging.getLogger("blemish.service")

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LEGACY = ("/predict", "/static/")
# Links in answers are keys themselves; the page and the documents hold no secret.
_OPEN = ("/api/v1/health/", "/api/v1/artifacts/", "/static/", "/page/")
_OPEN_EXACTLY = ("/", "/docs", "/openapi.json", "/favicon.ico")

STRICT_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def page_policy(frame_ancestors: tuple[str, ...]) -> str:
    """The page's Content-Security-Policy: its own files and nothing else."""
    ancestors = " ".join(frame_ancestors) or "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {ancestors}"
    )


class RequestMiddleware:
    """ASGI middleware around every route."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys,
        telemetry: ServiceMetrics,
        shared_with_origins: bool,
        framed: bool,
    ) -> None:
        self.app, self.keys, self.telemetry = app, keys, telemetry
        self.safe_headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Permissions-Policy": "geolocation=(), microphone=(), camera=(self)",
            "Cross-Origin-Resource-Policy": "cross-origin" if shared_with_origins else "same-origin",
            "Content-Security-Policy": STRICT_POLICY,
            "Cache-Control": "no-store",
        }
        if not framed:
            self.safe_headers |= {"X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        bodiless = scope["method"] == "HEAD"
        if bodiless:  # what GET would answer, without the body (RFC 9110, section 9.3.2)
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        wished = headers.get("x-request-id", "")
        request_id = wished if _ID.fullmatch(wished) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["X-Request-ID"] = request_id
                for name, value in self.safe_headers.items():
                    out.setdefault(name, value)
                if "location" in out:
                    out["Location"] = below_root(out["location"])
            elif bodiless:
                message = {**message, "body": b""}
            await send(message)

        try:
            self._check_key(scope["path"], headers)
            await self.app(scope, receive, send_safely)
        except asyncio.CancelledError:
            # Nobody but the server's end cancels a request, once it has waited as long as it may.
            if status:
                raise
            stopping = "The server had to stop before this was done; ask again when it is back."
            await respond(scope, Problem("draining", stopping))(scope, receive, send_safely)
        except ClientDisconnect:
            log.info("request %s: the client went away", request_id)
        except Problem as problem:
            await respond(scope, problem)(scope, receive, send_safely)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, scope["method"], _route(scope))
            if status:
                raise  # half an answer is on its way: the connection has to be cut
            await respond(scope, internal())(scope, receive, send_safely)
        finally:
            self._count(_route(scope), status, time.perf_counter() - began)

    def _check_key(self, path: str, headers: Mapping[str, str]) -> None:
        if not self.keys or path in _OPEN_EXACTLY or path.startswith(_OPEN):
            return
        challenge = {"WWW-Authenticate": 'Bearer realm="blemish"'}
        key = key_of({name.lower(): value for name, value in headers.items()})
        if key is None:
            raise Problem(
                "key_missing",
                "This server asks for an API key: send Authorization: Bearer KEY or X-API-Key: KEY.",
                headers=challenge,
            )
        if self.keys.owner(key) is None:
            raise Problem(
                "key_unknown", "This server does not know the API key that was sent.", headers=challenge
            )

    def _count(self, route: str, status: int, seconds: float) -> None:
        # 499 as nginx has it: the client went away before there was an answer.
        labels = {"route": route, "status": str(status or 499)}
        self.telemetry.count("blemish_requests_total", "Requests answered.", 1, **labels)
        self.telemetry.observe(
            "blemish_request_seconds", "From a request's head to its answer's end.", seconds, route=route
        )


def below_root(address: str) -> str:
    """An address of this server without scheme and host, which a redirect takes from what the client said.

    Example:
        >>> below_root("http://elsewhere.example//docs?a=1")
        '/docs?a=1'
    """
    parts = urlsplit(address)
    return "/" + parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")


def _route(scope: Scope) -> str:
    """The route's pattern: never the path itself, which holds what the client pleases."""
    return str(getattr(scope.get("route"), "path", "other"))


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id that this request goes by."""
    return str(scope.get("state", {}).get("request_id", ""))


def respond(scope: Mapping[str, Any], problem: Problem) -> Response:
    """A problem as the route's clients read it: DamageLens' have `detail`, all others RFC 9457."""
    if str(scope["path"]).startswith(_LEGACY):
        body: dict[str, Any] = {"detail": problem.detail}
        media_type = "application/json"
    else:
        body, media_type = problem.to_dict(request_id_of(scope)), MEDIA_TYPE
    return Response(
        json.dumps(body, ensure_ascii=False), problem.status, headers=problem.headers, media_type=media_type
    )


async def on_problem(request: Request, problem: Exception) -> Response:
    """FastAPI's handler of `Problem`."""
    if not isinstance(problem, Problem):
        raise problem
    return respond(request.scope, problem)
