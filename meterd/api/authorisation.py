"""Authorisation of a request: its Host header, its credentials, and their scope."""

from dataclasses import dataclass, field

from aiohttp import web

from meterd.api.auth.authenticator import Authenticator, LoginRequest
from meterd.api.auth.scope import ANYBODY, Who
from meterd.api.connection import in_ascii
from meterd.api.cors import Cors
from meterd.api.forwarded_headers import ForwardedHeaders, RequestOrigin
from meterd.api.hosts import check_host, check_near
from meterd.api.middleware import check_origin
from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.api.route import Scope

_WHO_MAY = "make a token for it: meterd token add NAME --scope {}"


@dataclass(frozen=True, slots=True)
class Authorisation:
    """`listen` is the host that the server is bound to; "" where any name is good."""

    listen: str
    locks: Authenticator
    way: ForwardedHeaders
    cors: Cors = field(default_factory=Cors)

    def via(self, request: web.Request) -> RequestOrigin:
        return self.way.of(request.remote or "", request.headers, request.scheme)

    def check(self, request: web.Request) -> None:
        """Refuses foreign host names where no login is required; those of trusted proxies are let
        through.
        """
        if self.listen and not self.way.is_trusted(request.remote or ""):
            check_host(request.headers.get("Host"), self.listen)

    async def let_in(self, request: web.Request, via: RequestOrigin, scope: Scope) -> Who | None:
        """The user, None where the route needs none. Raises ApiRefusal: 401, 403, 421 or 429."""
        if scope == "open":
            return None
        if scope != "read":
            check_origin(request.headers, via, self.cors)
        who = await self.locks.who(_login_request(request, via))
        if who == ANYBODY and not via.is_trusted:
            check_near(request.headers.get("Host"), self.listen)
        if who.may(scope):
            return who
        if not who.name:
            raise self.locks.refusal(f"this needs a login with the scope {scope}")
        detail = f"{who.name} may not do this: it needs the scope {scope}"
        raise ApiRefusal(403, ProblemCode.SCOPE_MISSING, detail, hint=_WHO_MAY.format(scope))


def _login_request(request: web.Request, via: RequestOrigin) -> LoginRequest:
    def is_uri(uri: str) -> bool:
        """Digest's uri is as the client saw it: maybe before a proxy took its prefix off."""
        if not uri.startswith("/"):
            uri = uri.partition("://")[2].partition("/")[2]
            uri = f"/{uri}"
        # As the connection made the request line readable.
        uri = in_ascii(uri.encode(errors="surrogateescape")).decode()
        return uri in (request.raw_path, via.prefix + request.raw_path)

    return LoginRequest(request.headers.get("Authorization", ""), request.method, via, is_uri)
