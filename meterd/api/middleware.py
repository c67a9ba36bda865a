"""Middleware: checks of each request before its route, headers and gzip after it."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Middleware

from meterd.api import problem
from meterd.api.connection import Connection
from meterd.api.cors import Cors
from meterd.api.forwarded_headers import RequestOrigin
from meterd.api.headers import HEADERS, refuse
from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.errors import StoreError

__all__ = ["HEADERS", "LARGEST_BODY", "accepts_gzip", "access_middleware", "gzip_body", "refuse"]

# A long query as a form; all else that is sent here is shorter.
LARGEST_BODY = 64 * 1024
# Shorter answers grow, or hardly shrink.
_GZIP_FROM = 1024
# Compressing this much takes about 1 ms: more goes to a thread, so that polls go on.
_GZIP_IN_THREAD = 64 * 1024
_GZIP_LEVEL = 4
_GZIP_WINDOW = 31  # zlib's word for "with a gzip header"
# What aiohttp may refuse by itself beside 404, 405 and 413; anything else is BAD_REQUEST.
_HTTP_CODES = {417: ProblemCode.EXPECTATION_FAILED, 500: ProblemCode.INTERNAL}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Nowhere = Callable[[str], ApiRefusal]


def check_origin(headers: Mapping[str, str], via: RequestOrigin, cors: Cors) -> None:
    """Refuse what a page of another site made a browser send, with its user's password.

    A page that is configured may send what its own token allows.
    """
    origin = headers.get("Origin")
    if cors.allows(headers) and "Authorization" in headers:
        return
    is_ours = origin is None or urlsplit(origin).netloc.lower() == via.host.lower()
    if is_ours and headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
        return
    raise ApiRefusal(
        403,
        ProblemCode.FOREIGN_ORIGIN,
        f"a page of another site ({problem.quote(origin or 'unknown')}) may change nothing here",
        hint="behind a proxy, name it in api.trusted_proxies and pass X-Forwarded-Host on",
    )


def too_large() -> ApiRefusal:
    detail = f"the body is longer than {LARGEST_BODY} bytes"
    return ApiRefusal(
        413, ProblemCode.BODY_TOO_LARGE, detail, hint="no request of this API needs as much"
    )


def _check_body(request: web.Request) -> None:
    if (request.content_length or 0) > LARGEST_BODY:
        raise too_large()
    coding = request.headers.get("Content-Encoding", "identity")
    if request.can_read_body and coding.strip().lower() not in ("", "identity"):
        detail = f"the body is coded as {problem.quote(coding)}"
        headers = {"Accept-Encoding": "identity"}
        raise ApiRefusal(
            415, ProblemCode.CODED_BODY, detail, hint="send it as it is", headers=headers
        )


async def body_of(request: web.Request, seconds: float) -> bytes:
    """The whole body. Raises ApiRefusal where it is too long, too slow or malformed."""
    if not request.can_read_body or request.method in ("GET", "HEAD"):
        return b""
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        detail = f"the body did not come within {seconds:g} seconds"
        raise ApiRefusal(
            408, ProblemCode.SLOW_BODY, detail, headers={"Connection": "close"}
        ) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise ApiRefusal(400, ProblemCode.BAD_HTTP, "the body is not well-formed") from error


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Answers `Expect: 100-continue`: go on, or at once that the body is too long."""
    if request.version < HttpVersion11 or request.headers["Expect"].lower() != "100-continue":
        return None
    if (request.content_length or 0) > LARGEST_BODY:
        response = refuse(too_large(), request.path)
        response.force_close()
        return response
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0
    return None


def _refusal_of(error: web.HTTPException, request: web.BaseRequest, nowhere: Nowhere) -> ApiRefusal:
    """aiohttp's own refusals in our words."""
    if isinstance(error, web.HTTPNotFound):
        return nowhere(request.path)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return too_large()
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        detail = f"{problem.quote(request.method)} is not possible here"
        headers = {"Allow": ", ".join(allowed)}
        return ApiRefusal(
            405, ProblemCode.METHOD_NOT_ALLOWED, detail, allowed=allowed, headers=headers
        )
    code = _HTTP_CODES.get(error.status, ProblemCode.BAD_REQUEST)
    return ApiRefusal(error.status, code, error.text or HTTPStatus(error.status).phrase)


def access_middleware(
    check: Callable[[web.Request], None], nowhere: Nowhere, cors: Cors, base: str = ""
) -> Middleware:
    """The one middleware; `check` refuses a whole request, `nowhere` unknown paths."""

    def no(request: web.Request, refusal: ApiRefusal) -> web.Response:
        return refuse(refusal, request.path.removeprefix(base))

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check(request)
            if (preflight := cors.preflight(request)) is not None:
                return preflight
            _check_body(request)
            return await handler(request)
        except ApiRefusal as refusal:
            return no(request, refusal)
        except StoreError as error:
            return no(request, problem.of_store(error))
        except web.HTTPException as error:
            return no(request, _refusal_of(error, request, nowhere))

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.protocol
        if not isinstance(connection, Connection):
            return await answer(request, handler)
        connection.begun()
        try:
            response = await answer(request, handler)
            # A client that was refused has to connect anew, too.
            if connection.is_leaving:
                response.force_close()
            return response
        finally:
            connection.ended()

    return handle


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header names it."""
    for offer in header.lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


async def gzip_body(body: bytes, accept_encoding: str) -> tuple[bytes, bool]:
    """The body, compressed where that is worthwhile, and whether it is."""
    if len(body) < _GZIP_FROM or not accepts_gzip(accept_encoding):
        return body, False
    if len(body) < _GZIP_IN_THREAD:
        return zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW), True
    return await asyncio.to_thread(zlib.compress, body, _GZIP_LEVEL, _GZIP_WINDOW), True
