"""The live page: a fixed table of files, read once; no path of a client ever names a file."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from importlib.resources import files as resources

from meterd.api.answer import ApiAnswer, ApiCall
from meterd.api.query import NoQuery

HTML = "text/html; charset=utf-8"
_CSS = "text/css; charset=utf-8"
_MODULE = "text/javascript; charset=utf-8"
_SVG = "image/svg+xml"

_FILES = {
    "style.css": _CSS,
    "tile.css": _CSS,
    "app.js": _MODULE,
    "docs.css": _CSS,
    "docs.js": _MODULE,
    "docs-try.js": _MODULE,
    "feed.js": _MODULE,
    "format.js": _MODULE,
    "reading.js": _MODULE,
    "spark.js": _MODULE,
    "tile.js": _MODULE,
    "icon.svg": _SVG,
}

Function = Callable[[ApiCall, NoQuery], Awaitable[ApiAnswer]]


@cache
def _load(name: str, media: str) -> ApiAnswer:
    body = resources("meterd.api").joinpath("web", name).read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    # Browsers keep it, but ask each time: an updated meterd shows its own page at once.
    return ApiAnswer(body, media, {"ETag": etag, "Cache-Control": "no-cache"})


async def index(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return _load("index.html", HTML)


async def docs(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return _load("docs.html", HTML)


def _giver(name: str, media: str) -> Function:
    async def give(call: ApiCall, query: NoQuery) -> ApiAnswer:
        return _load(name, media)

    return give


def files() -> Iterator[tuple[str, str, Function]]:
    """Path, media type and function of every file."""
    for name, media in _FILES.items():
        yield f"/web/{name}", media, _giver(name, media)
