"""ASGI middleware around every request: request id, API key, security headers, metrics, and no tracebacks."""

from __future__ import annotations

import asyncio
import ipaddress
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

from blemish.service.api_keys import ApiKeys, key_from_headers
from blemish.service.problem_details import MEDIA_TYPE, FormatProblem, Problem, internal_problem
from blemish.service.service_metrics import ServiceMetrics

log = logging.getLogger("blemish.service")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Links in answers are keys themselves; the page and the documents contain no secret.
_PUBLIC_PREFIXES = ("/api/v1/health/", "/v2/health/", "/api/v1/artifacts/", "/page/")
_PUBLIC_PATHS = ("/", "/docs", "/openapi.json", "/favicon.ico")
_CLIENT_CLOSED_REQUEST = 499  # nginx's status: the client disconnected before there was an answer

STRICT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def page_security_policy(frame_ancestors: tuple[str, ...]) -> str:
    """Return the Content-Security-Policy of the page, which allows its own files and nothing else."""
    ancestors = " ".join(frame_ancestors) or "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {ancestors}"
    )


class ProblemResponder:
    """Turns a `Problem` into a response in the format of its route."""

    def __init__(self, formats: Mapping[str, FormatProblem] | None = None) -> None:
        """Answer with RFC 9457 documents, except below some paths.

        Args:
            formats: other formats by the beginning of a path.
        """
        self._formats = dict(formats or {})

    def respond(self, scope: Mapping[str, Any], problem: Problem) -> Response:
        """Return the response for a problem of one request."""
        path = str(scope["path"])
        for prefix, format_problem in self._formats.items():
            if path.startswith(prefix):
                body, media_type = format_problem(problem)
                break
        else:
            body, media_type = problem.to_dict(get_request_id(scope)), MEDIA_TYPE
        content = json.dumps(body, ensure_ascii=False)
        return Response(content, problem.status, headers=problem.headers, media_type=media_type)

    async def on_problem(self, request: Request, error: Exception) -> Response:
        """Handle a `Problem` that a route raised."""
        if not isinstance(error, Problem):
            raise error
        return self.respond(request.scope, error)


class RequestMiddleware:
    """The middleware.

    Args:
        app: the application inside.
        keys: the accepted API keys; empty accepts every request.
        metrics: counts the requests.
        responder: writes the refusals.
        public_paths: beginnings of paths that need no API key, beside the built-in ones.
        cross_origin: whether pages of other origins may call the service.
        framed: whether other pages may show the page in a frame.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys,
        metrics: ServiceMetrics,
        responder: ProblemResponder,
        public_paths: tuple[str, ...] = (),
        cross_origin: bool = False,
        framed: bool = False,
    ) -> None:
        self.app, self.keys, self.metrics, self.responder = app, keys, metrics, responder
        self.public_prefixes = (*_PUBLIC_PREFIXES, *public_paths)
        self.security_headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Permissions-Policy": "geolocation=(), microphone=(), camera=(self)",
            "Cross-Origin-Resource-Policy": "cross-origin" if cross_origin else "same-origin",
            "Content-Security-Policy": STRICT_SECURITY_POLICY,
            "Cache-Control": "no-store",
        }
        if not framed:
            self.security_headers |= {"X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        if is_head:  # the answer to GET without the body (RFC 9110, section 9.3.2)
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        client_id = headers.get("x-request-id", "")
        request_id = client_id if _REQUEST_ID.fullmatch(client_id) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["X-Request-ID"] = request_id
                for name, value in self.security_headers.items():
                    out.setdefault(name, value)
                if "location" in out:
                    out["Location"] = without_origin(out["location"])
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            _check_length(headers)
            scope["state"]["client"] = _identify(scope, self._check_key(scope["path"], headers))
            await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # Only the end of the server cancels a request, after waiting for it as long as it may.
            if status:
                raise
            problem = Problem(
                "draining", "The server stopped before this was done. Try again when it is back."
            )
            await self.responder.respond(scope, problem)(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("request %s: the client disconnected", request_id)
        except Problem as problem:
            await self.responder.respond(scope, problem)(scope, receive, send_with_headers)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, scope["method"], _route_pattern(scope))
            if status:
                raise  # half an answer has been sent: the connection must be closed
            await self.responder.respond(scope, internal_problem())(scope, receive, send_with_headers)
        finally:
            self._count(_route_pattern(scope), status, time.perf_counter() - began)

    def _check_key(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the owner of the API key; None without a key where none is required."""
        if not self.keys:
            return None
        challenge = {"WWW-Authenticate": 'Bearer realm="blemish"'}
        key = key_from_headers({name.lower(): value for name, value in headers.items()})
        owner = None if key is None else self.keys.owner(key)
        if owner is not None or path in _PUBLIC_PATHS or path.startswith(self.public_prefixes):
            return owner
        if key is None:
            raise Problem(
                "api-key-missing",
                "This server requires an API key. Send Authorization: Bearer KEY or X-API-Key: KEY.",
                headers=challenge,
            )
        raise Problem(
            "api-key-unknown", "The API key is not one of this server's. Check the key.", headers=challenge
        )

    def _count(self, route: str, status: int, seconds: float) -> None:
        self.metrics.requests.labels(route=route, status=str(status or _CLIENT_CLOSED_REQUEST)).inc()
        self.metrics.request_seconds.labels(route=route).observe(seconds)


def _check_length(headers: Headers) -> None:
    """Refuse a request whose length a proxy may read differently, and close its connection.

    Source: RFC 9112, section 6.3: such a request may be an attempt to smuggle a second one.
    """
    if "content-length" in headers and "transfer-encoding" in headers:
        raise Problem(
            "ambiguous-length",
            "The request has Content-Length and Transfer-Encoding. Send one of them.",
            headers={"Connection": "close"},
        )


def without_origin(address: str) -> str:
    """Return an address without scheme and host, which a redirect takes from the client's headers.

    Example:
        >>> without_origin("http://elsewhere.example//docs?a=1")
        '/docs?a=1'
    """
    parts = urlsplit(address)
    return "/" + parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")


def get_client(scope: Mapping[str, Any]) -> str:
    """Return the client of the request, among which limits are shared: `key:NAME`, or `address:ADDRESS`.

    Of an IPv6 address the first 64 bits count, because one machine has all addresses that begin with them.
    """
    return str(scope.get("state", {}).get("client", "address:"))


def client_label(client: str) -> str:
    """Return the label of a client for metrics: the name of its API key, or `address`.

    Example:
        >>> client_label("key:claims"), client_label("address:192.0.2.7")
        ('claims', 'address')
    """
    kind, _, name = client.partition(":")
    return name if kind == "key" else "address"


def _identify(scope: Mapping[str, Any], owner: str | None) -> str:
    if owner is not None:
        return f"key:{owner}"
    host = str((scope.get("client") or ("", 0))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"address:{host}"
    if address.version == 6 and address.ipv4_mapped is None:
        host = str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return f"address:{host}"


def get_request_id(scope: Mapping[str, Any]) -> str:
    """Return the id of the request."""
    return str(scope.get("state", {}).get("request_id", ""))


def _route_pattern(scope: Scope) -> str:
    """Return the pattern of the route, never the path itself, which contains text of the client."""
    return str(getattr(scope.get("route"), "path", "other"))
