"""The headers that every answer carries, and a refusal as a response with them."""

from aiohttp import web
from multidict import CIMultiDict

from meterd.api import problem
from meterd.api.problem import Refusal

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

# A year. Only over TLS: a browser would not come back to plain HTTP for as long.
STRICT = {"Strict-Transport-Security": "max-age=31536000"}


def refuse(refusal: Refusal) -> web.Response:
    """A refusal as a response."""
    headers = CIMultiDict({**HEADERS, "Cache-Control": "no-store", **refusal.headers})
    for challenge in refusal.challenges:
        headers.add("WWW-Authenticate", challenge)
    return web.Response(
        body=refusal.body(), status=refusal.status, content_type=problem.MEDIA, headers=headers
    )
