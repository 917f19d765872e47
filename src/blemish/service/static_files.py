"""The files of the page, read once and served from memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from blemish.service import schemas
from blemish.service.middleware import page_security_policy
from blemish.service.problem_details import Problem
from blemish.service.settings import Settings

_FOLDER = Path(__file__).parent / "page"
_START = "index.html"
# mimetypes asks the operating system, and some systems give text/plain for a script.
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class StaticFile:
    """A file of the page: its bytes, media type and entity tag."""

    data: bytes
    media_type: str
    etag: str


def read_page_files(folder: Path = _FOLDER) -> dict[str, StaticFile]:
    """Return the files of the page by their path below `folder`; files of other types are left out."""
    files = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and path.suffix in _MEDIA_TYPES:
            data = path.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            files[path.relative_to(folder).as_posix()] = StaticFile(data, _MEDIA_TYPES[path.suffix], etag)
    return files


def page_router(settings: Settings) -> APIRouter:
    """Return the routes `/`, `/page/…` with the sample images, and `/favicon.ico`."""
    router = APIRouter()
    files = read_page_files()
    policy = page_security_policy(settings.frame_ancestors)

    def respond(request: Request, name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise Problem("not-found", "There is no such file.")
        headers = {
            "ETag": file.etag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy,
            "Vary": "Accept",
        }
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.data, media_type=file.media_type, headers=headers)

    @router.get(
        "/",
        tags=["page"],
        response_model=schemas.Running,
        responses={200: {"description": "The page for browsers.", "content": {"text/html": {}}}},
    )
    async def start(request: Request) -> Response:
        """Return the page to browsers, and a JSON status to other clients."""
        if _START in files and "text/html" in request.headers.get("accept", ""):
            return respond(request, _START)
        return JSONResponse({"status": "API is running"}, headers={"Vary": "Accept"})

    samples = settings.sample_images

    @router.get("/page/samples.json", include_in_schema=False)
    async def list_samples() -> JSONResponse:
        names = [path.name for path in samples]
        return JSONResponse(
            {"samples": [{"name": n, "path": f"/page/samples/{i}"} for i, n in enumerate(names)]}
        )

    @router.get("/page/samples/{number}", include_in_schema=False)
    def sample(number: int) -> Response:
        if not 0 <= number < len(samples):
            raise Problem("not-found", "There is no such sample image.")
        # Not an image type: the page alone reads it, as it reads a dropped file.
        return Response(samples[number].read_bytes(), media_type="application/octet-stream")

    @router.get("/page/{path:path}", include_in_schema=False)
    async def page(request: Request, path: str) -> Response:
        return respond(request, path)

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return respond(request, "favicon.svg" if "favicon.svg" in files else "favicon.ico")

    return router
