"""Requests to the store of inspections: who asks, what may be done, and what a refusal looks like."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from blemish.errors import BadImage, BadInput, BadStore, BlemishError, Conflict, StorageFull, UnknownName
from blemish.inspections.access import User
from blemish.inspections.store import InspectionStore
from blemish.service.api_keys import ApiKeys
from blemish.service.middleware import get_client
from blemish.service.problem_details import Problem, image_problem
from blemish.service.serializers import SCHEMA_VERSION

_RESOURCES = ("asset", "inspection", "image", "finding", "report")
_ETAG = re.compile(r'"(\d{1,9})"')
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
MAX_JSON_BYTES = 4 * 1024 * 1024  # an outline of 100,000 points has about 2 MB


class LimitedRoute(APIRoute):
    """A route that refuses JSON above `MAX_JSON_BYTES` before it is parsed; forms have their own limits."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler; it raises `Problem` ("upload-too-large")."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_limited(request: Request) -> Response:
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_JSON_BYTES:
                    raise Problem(
                        "upload-too-large",
                        f"The JSON is larger than the {MAX_JSON_BYTES} bytes that are allowed. Send less.",
                        limit=("max_json_bytes", MAX_JSON_BYTES),
                    )

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": bytes(body), "more_body": False}

            return await handle(Request(request.scope, receive))

        return handle_limited


class Body(BaseModel):
    """The JSON of a request; a key without a field is an error."""

    model_config = ConfigDict(extra="forbid")


class AssetBody(Body):
    """A new asset."""

    kind: str = "free"
    reference: str
    attributes: dict[str, Any] = Field(default_factory=dict)


class AssetChange(Body):
    """The new attributes of an asset."""

    attributes: dict[str, Any]


class InspectionBody(Body):
    """A new inspection."""

    asset_id: str
    kind: str = ""
    phase: str = "periodic"
    previous_id: str | None = None
    required_views: list[str] = Field(default_factory=list, max_length=100)
    severity: str | dict[str, Any] | None = Field(
        default=None, description="Name of built-in rules, or the rules themselves."
    )


class InspectionChange(Body):
    """The new status of an inspection."""

    status: str


class FindingBody(Body):
    """A finding of a person."""

    image_id: str
    label: str
    box_xyxy: list[float] | None = None
    polygons: list[list[list[float]]] | None = None
    part: str = ""
    reason: str = ""
    note: str = ""
    reviewer: str | None = None


class ReviewBody(Body):
    """A decision about a finding."""

    action: str
    changes: dict[str, Any] | None = None
    reason: str = ""
    note: str = ""
    reviewer: str | None = Field(default=None, description="Who decides; only for servers without API keys.")


class ImageChange(Body):
    """The new view of an image."""

    view: str


class RunBody(Body):
    """A run of a served model over the images that it has not seen."""

    model: str | None = None
    parts: str | None = None
    min_score: float | None = Field(default=None, ge=0, le=1)
    normal_labels: list[str] = Field(default_factory=list, max_length=1000)
    max_images: int | None = Field(default=None, ge=1, description="Leave further images to the next run.")


class ComparisonBody(Body):
    """A comparison with an earlier inspection."""

    previous_id: str | None = None


class ReportBody(Body):
    """A report to write."""

    format: str = "pdf"
    options: dict[str, str] = Field(default_factory=dict)


class InspectionRequests:
    """What all routes of the store share."""

    def __init__(self, store: InspectionStore, keys: ApiKeys | None, max_pixels: int) -> None:
        self._store, self._keys, self._max_pixels = store, keys, max_pixels

    def store(self, request: Request, scope: str) -> InspectionStore:
        """Return the store as the client of a request sees it.

        Without API keys, every client sees everything. With them, a client sees what its key created, and a
        key with the scope `admin` sees everything.

        Raises:
            Problem: the key lacks the scope ("scope-missing").
        """
        kind, _, name = get_client(request.scope).partition(":")
        if not self._keys or kind != "key":
            return self._store.for_user(User("local", None))
        scopes = self._keys.scopes(name)
        if scope not in scopes and "admin" not in scopes:
            raise Problem(
                "scope-missing",
                f"This API key lacks the scope {scope!r}. Use another key.",
                status=403,
                title="The API key may not do this",
            )
        return self._store.for_user(User(name, None if "admin" in scopes else name))

    def reviewer(self, request: Request, store: InspectionStore, name: str | None) -> str:
        """Return who decides: the name of the API key, or the given name if the server has no keys.

        Raises:
            Problem: a name was given beside an API key ("bad-input.reviewer").
        """
        kind = get_client(request.scope).partition(":")[0]
        if name is None or not self._keys or kind != "key":
            return store.access.user.name if name is None else name
        raise Problem(
            "bad-input.reviewer",
            "The reviewer is the name of the API key. Leave out `reviewer`.",
            status=422,
            title="The request cannot be followed",
        )

    def user_fields(self, request: Request) -> dict[str, Any]:
        """Return the name of the request's API key, None without one, and what it may do."""
        kind, _, name = get_client(request.scope).partition(":")
        if not self._keys or kind != "key":
            return {"reviewer": None, "scopes": ["read", "review", "write"]}
        return {"reviewer": name, "scopes": sorted(self._keys.scopes(name))}

    def answer(self, work: Callable[[], Response]) -> Response:
        """Return the answer of `work`, with errors of the store as problems."""
        try:
            return work()
        except BlemishError as error:
            raise self.problem(error) from error

    def create(
        self, request: Request, store: InspectionStore, content: bytes, work: Callable[[], Mapping[str, Any]]
    ) -> Response:
        """Write once for each `Idempotency-Key`, and answer 201.

        Args:
            request: with the header, or without.
            store: as the client sees it.
            content: what the key stands for: the body of the request.
            work: writes, and returns the answer.
        """

        def write() -> Response:
            key = request.headers.get("idempotency-key")
            if key is None:
                return json_answer(work(), 201)
            if _KEY.fullmatch(key) is None:
                raise BadInput(
                    "Idempotency-Key: expected 1 to 255 visible ASCII characters", reason="idempotency-key"
                )
            digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + content).hexdigest()
            status, fields, repeated = store.once(key, digest, lambda: (201, work()))
            answer = json_answer(fields, status)
            if repeated:
                answer.headers["Idempotent-Replayed"] = "true"
            return answer

        return self.answer(write)

    def perform(self, request: Request, work: Callable[[], Mapping[str, Any]]) -> Response:
        """Do slow work outside of a transaction, and answer 201; `Idempotency-Key` is refused.

        A run leaves out images that its model has seen, and a comparison replaces the one before it, so that
        both may be repeated.
        """

        def write() -> Response:
            if "idempotency-key" in request.headers:
                raise BadInput(
                    "Idempotency-Key: this route has none; repeat the request", reason="idempotency-key"
                )
            return json_answer(work(), 201)

        return self.answer(write)

    def problem(self, error: BlemishError) -> Problem:
        """Return the problem document of an error of the store; paths of the server stay on the server."""
        if isinstance(error, Problem):
            return error
        if isinstance(error, BadImage):
            return image_problem(error, max_pixels=self._max_pixels)
        if isinstance(error, UnknownName) and error.kind in _RESOURCES:
            return Problem("not-found", f"There is no such {error.kind}.")
        if isinstance(error, Conflict):
            status = 412 if error.code == "conflict.version" else 409
            return Problem(
                error.code, f"{error}.".replace("..", "."), status=status, title="The request conflicts"
            )
        if isinstance(error, StorageFull):
            detail = "The server cannot store anything more. Nothing of this request was stored."
            return Problem(error.code, detail, status=507, title="The storage of the server is full")
        if isinstance(error, BadStore):
            detail = "The store of inspections cannot be used now. The log of the server has the cause."
            return Problem(
                error.code, detail, status=503, title="The store cannot be used", retry_after_seconds=5
            )
        return Problem(
            error.code, f"{error}.".replace("..", "."), status=422, title="The request cannot be followed"
        )


def json_answer(fields: Mapping[str, Any], status: int = 200, *, version: int | None = None) -> Response:
    """Return a JSON answer, with the version as ETag."""
    headers = {} if version is None else {"ETag": f'"{version}"'}
    return JSONResponse({"schema_version": SCHEMA_VERSION, **fields}, status, headers=headers)


def expected_version(request: Request) -> int | None:
    """Return the version that `If-Match` requires; None without the header or with `*`.

    Raises:
        BadInput: the header is not an ETag of this service ("bad-input.if-match").
    """
    value = request.headers.get("if-match")
    if value is None or value.strip() == "*":
        return None
    if (match := _ETAG.fullmatch(value.strip())) is None:
        raise BadInput('If-Match: expected an ETag such as "3"', reason="if-match")
    return int(match[1])


def body_bytes(body: Body) -> bytes:
    """Return a body as canonical JSON."""
    return json.dumps(body.model_dump(mode="json"), sort_keys=True).encode()
