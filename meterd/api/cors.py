"""Which pages of other sites may read what meterd answers: those whose origin is configured.

A browser sends no password of its own with such a request, because meterd never says
Access-Control-Allow-Credentials: a page has to send a token itself. So `*` is never needed.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from aiohttp import web

from meterd.api.headers import HEADERS

# Seconds in which a browser need not ask again.
_MAX_AGE = 600
_METHODS = "GET, HEAD, POST, DELETE"
_REQUEST_HEADERS = "Authorization, Content-Type, If-None-Match, Last-Event-ID"
_RESPONSE_HEADERS = "ETag, Retry-After, Content-Disposition"


@dataclass(frozen=True, slots=True)
class Cors:
    """The origins, as browsers write them: https://dash.example, http://nas.lan:3000."""

    origins: frozenset[str] = frozenset()

    def allows(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is of a page that may read the answer."""
        return headers.get("Origin", "") in self.origins

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a preflight request; None where it is none."""
        asks = "Access-Control-Request-Method" in request.headers
        if request.method != "OPTIONS" or not asks or not self.allows(request.headers):
            return None
        headers = {
            **HEADERS,
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _REQUEST_HEADERS,
            "Access-Control-Max-Age": str(_MAX_AGE),
        }
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=headers)

    def mark(self, asked: Mapping[str, str], answered: MutableMapping[str, str]) -> None:
        """Adds the CORS headers to an answer's headers; `asked`: the request's."""
        if not self.origins:
            return
        vary = answered.get("Vary", "")
        answered["Vary"] = f"{vary}, Origin" if vary else "Origin"
        if self.allows(asked):
            answered["Access-Control-Allow-Origin"] = asked["Origin"]
            answered["Access-Control-Expose-Headers"] = _RESPONSE_HEADERS
            answered["Cross-Origin-Resource-Policy"] = "cross-origin"
