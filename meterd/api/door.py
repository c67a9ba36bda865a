"""What happens to every request before and after its route: checks, refusals, headers, gzip."""

import asyncio
import ipaddress
import zlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware

from meterd.api import problem
from meterd.api.problem import Refusal
from meterd.errors import StoreError

# No request of the API has a body; a small one that comes all the same is read and dropped.
LARGEST_BODY = 16 * 1024
# Shorter answers grow, or hardly shrink.
_GZIP_FROM = 1024
# Compressing this much takes about 1 ms: more goes to a thread, so that polls go on.
_GZIP_IN_THREAD = 64 * 1024
_GZIP_LEVEL = 4
_GZIP_WINDOW = 31  # zlib's word for "with a gzip header"

HEADERS = {
    "Server": "meterd",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Nowhere = Callable[[str], Refusal]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address or name."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host(header: str) -> str:
    """`[::1]:8420` -> `::1`, `localhost:8420` -> `localhost`."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def check_host(header: str | None, listen: str) -> None:
    """On loopback, refuse names that are not local: they come from a rebound DNS name."""
    if not is_loopback(listen):
        return
    name = _host(header or "")
    if not is_loopback(name) and name.lower() != listen.lower():
        raise Refusal(
            421,
            "foreign_host",
            f"meterd listens on loopback and is not known as {problem.quote(name)}",
            hint="use http://localhost, or set api.listen to an address that others may reach",
        )


def _check_body(request: web.Request) -> None:
    if (request.content_length or 0) > LARGEST_BODY:
        detail = f"the body is longer than {LARGEST_BODY} bytes"
        raise Refusal(413, "body_too_large", detail, hint="requests of this API have no body")


def _refusal_of(error: web.HTTPException, request: web.BaseRequest, nowhere: Nowhere) -> Refusal:
    """aiohttp's own refusals in our words."""
    if isinstance(error, web.HTTPNotFound):
        return nowhere(request.path)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        detail = f"{problem.quote(request.method)} is not possible here"
        headers = {"Allow": ", ".join(allowed)}
        return Refusal(405, "method_not_allowed", detail, allowed=allowed, headers=headers)
    phrase = HTTPStatus(error.status).phrase
    return Refusal(error.status, phrase.lower().replace(" ", "_"), error.text or phrase)


def refuse(refusal: Refusal) -> web.Response:
    """A refusal as a response."""
    headers = {**HEADERS, "Cache-Control": "no-store", **refusal.headers}
    return web.Response(
        body=refusal.body(), status=refusal.status, content_type=problem.MEDIA, headers=headers
    )


def doorman(listen: str, nowhere: Nowhere) -> Middleware:
    """The one middleware, for a server bound to `listen`; `nowhere` refuses unknown paths."""

    @web.middleware
    async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_host(request.headers.get("Host"), listen)
            _check_body(request)
            return await handler(request)
        except Refusal as refusal:
            return refuse(refusal)
        except StoreError as error:
            return refuse(problem.of_store(error))
        except web.HTTPException as error:
            return refuse(_refusal_of(error, request, nowhere))

    return door


def _accepts_gzip(header: str) -> bool:
    for offer in header.lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


async def squeeze(body: bytes, accept_encoding: str) -> tuple[bytes, bool]:
    """The body, and whether it is gzip now."""
    if len(body) < _GZIP_FROM or not _accepts_gzip(accept_encoding):
        return body, False
    if len(body) < _GZIP_IN_THREAD:
        return zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW), True
    return await asyncio.to_thread(zlib.compress, body, _GZIP_LEVEL, _GZIP_WINDOW), True
