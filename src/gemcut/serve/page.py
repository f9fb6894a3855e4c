"""The chat page: its files, read once, served under headers by which it loads nothing from elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib import resources
from pathlib import PurePosixPath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

INDEX = "index.html"
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# No inline script or style, no other host, no plug-in, no frame around it; and text never becomes markup, because
# without a trusted type the browser refuses innerHTML and its like.
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Asked again each time, answered by 304: after an update no old file meets a new one.
    "Cache-Control": "no-cache",
}


@dataclasses.dataclass(frozen=True)
class PageFile:
    """One file of the page as it goes over the wire."""

    content: bytes
    content_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """The page's files by name."""
    files = {}
    for entry in resources.files("gemcut.serve").joinpath("page").iterdir():
        content_type = _CONTENT_TYPES.get(PurePosixPath(entry.name).suffix)
        if content_type is not None:
            content = entry.read_bytes()
            files[entry.name] = PageFile(content, content_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return files


def page_routes() -> list[Route]:
    """Routes of the chat page: `/` and `/page/NAME`.

    A request's path is looked up in a table that is filled when the routes are made; it never reaches the disk.
    """
    files = page_files()

    async def index(request: Request) -> Response:
        return _response(request, files[INDEX])

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return _response(request, found)

    return [Route("/", index), Route("/page/{name}", file)]


def _response(request: Request, file: PageFile) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if request.headers.get("If-None-Match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "Content-Type": file.content_type})
