"""The live page: a fixed table of files, read once; no path of a client ever names a file."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from importlib.resources import files as resources

from meterd.api.answer import Answer, Call
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

Function = Callable[[Call, NoQuery], Awaitable[Answer]]


@cache
def _load(name: str, media: str) -> Answer:
    body = resources("meterd.api").joinpath("web", name).read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    # Browsers keep it, but ask each time: an updated meterd shows its own page at once.
    return Answer(body, media, {"ETag": etag, "Cache-Control": "no-cache"})


async def index(call: Call, query: NoQuery) -> Answer:
    return _load("index.html", HTML)


async def docs(call: Call, query: NoQuery) -> Answer:
    return _load("docs.html", HTML)


def _giver(name: str, media: str) -> Function:
    async def give(call: Call, query: NoQuery) -> Answer:
        return _load(name, media)

    return give


def files() -> Iterator[tuple[str, str, Function]]:
    """Path, media type and function of every file."""
    for name, media in _FILES.items():
        yield f"/web/{name}", media, _giver(name, media)
