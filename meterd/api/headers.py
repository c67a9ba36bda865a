"""The headers that every answer carries, and a refusal as a response with them."""

import re

from aiohttp import web

from meterd.api import problem
from meterd.api.problem import ApiRefusal
from meterd.api.promapi.reply import MEDIA as JSON
from meterd.api.promapi.reply import Trouble, error_body
from meterd.promql.result import PromErrorType

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

# The last form is how an unknown base path looks from here; no path of REST has it.
_PROMETHEUS = re.compile(r"/prometheus(/|$)|[^?]*/prometheus/(api|-)/")
# Status -> errorType. Prometheus has words for its own errors only; these are its relatives'.
_KINDS = {
    401: PromErrorType.UNAUTHORIZED,
    403: PromErrorType.FORBIDDEN,
    404: PromErrorType.NOT_FOUND,
    408: PromErrorType.TIMEOUT,
    429: PromErrorType.TOO_MANY_REQUESTS,
    500: PromErrorType.INTERNAL,
    503: PromErrorType.UNAVAILABLE,
}

# A year. Only over TLS: a browser would not come back to plain HTTP for as long.
STRICT = {"Strict-Transport-Security": "max-age=31536000"}


def shaped(refusal: ApiRefusal, path: str) -> tuple[bytes, str]:
    """The body of a refusal and its media type, in the shape of the API that the path is of."""
    if not _PROMETHEUS.match(path):
        return refusal.body(), problem.MEDIA
    trouble = Trouble(_KINDS.get(refusal.status, PromErrorType.BAD_DATA), refusal.sentence())
    return error_body(trouble), JSON


def refuse(refusal: ApiRefusal, path: str = "") -> web.Response:
    """A refusal as a response: a problem, under /prometheus an error in Prometheus' shape."""
    headers = {**HEADERS, "Cache-Control": "no-store", **refusal.headers}
    body, media = shaped(refusal, path)
    response = web.Response(body=body, status=refusal.status, content_type=media, headers=headers)
    for challenge in refusal.challenges:
        response.headers.add("WWW-Authenticate", challenge)
    return response
