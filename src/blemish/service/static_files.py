"""The page's own files, read once and served from memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from blemish.service import schemas
from blemish.service.middleware import page_policy
from blemish.service.problem_details import Problem
from blemish.service.settings import Settings

_FOLDER = Path(__file__).parent / "page"
_START = "index.html"
# mimetypes asks the machine, and some machines say text/plain of a script.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class StaticFile:
    """A file of the page: its bytes, media type and entity tag."""

    data: bytes
    media_type: str
    tag: str


def read_page(folder: Path = _FOLDER) -> dict[str, StaticFile]:
    """The page's files by their path below `folder`; only of types that a page is made of."""
    files = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and path.suffix in _TYPES:
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            files[path.relative_to(folder).as_posix()] = StaticFile(data, _TYPES[path.suffix], tag)
    return files


def build(settings: Settings) -> APIRouter:
    """`/` and `/page/...`."""
    router = APIRouter()
    files = read_page()
    policy = page_policy(settings.frame_ancestors)

    def serve(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise Problem("not_found", "There is no such file.")
        headers = {
            "ETag": file.tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy,
            "Vary": "Accept",
        }
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.data, media_type=file.media_type, headers=headers)

    @router.get(
        "/",
        tags=["page"],
        response_model=schemas.Running,
        responses={200: {"description": "The page for browsers.", "content": {"text/html": {}}}},
    )
    async def start(request: Request) -> Response:
        """Give browsers the page and everybody else a sign of life."""
        if _START in files and "text/html" in request.headers.get("accept", ""):
            return serve(request, _START)
        return JSONResponse({"status": "API is running"}, headers={"Vary": "Accept"})

    @router.get("/page/{path:path}", include_in_schema=False)
    async def page(request: Request, path: str) -> Response:
        return serve(request, path)

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return serve(request, "favicon.svg" if "favicon.svg" in files else "favicon.ico")

    return router
