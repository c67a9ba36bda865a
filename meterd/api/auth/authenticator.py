"""The authenticator: from an Authorization header to a user or token, or to a refusal."""

import base64
import binascii
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from meterd.api.auth.digest import Digest, Verdict, parse
from meterd.api.auth.login_throttle import LoginThrottle
from meterd.api.auth.passwords import REALM, User, Users, ha1
from meterd.api.auth.scope import ANYBODY, LOCAL, Who
from meterd.api.auth.token_store import TokenStore
from meterd.api.auth.tokens import PREFIX
from meterd.api.forwarded_headers import RequestOrigin
from meterd.api.log_rate_limit import LogRateLimit
from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode
from meterd.model.clock import Clock

log = logging.getLogger("meterd.api")

_HINT = "log in with a token (Authorization: Bearer …) or with a user's password"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may log in. `is_loopback`: only this machine can reach the address.

    `login_always`: not even this machine goes without; `insecure`: where there is neither
    user nor file of tokens, everybody may look.
    """

    is_loopback: bool = True
    login_always: bool = False
    insecure: bool = False
    users: Mapping[str, User] = field(default_factory=dict)
    tokens: Path | None = None


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """The parts of a request that a login depends on; `is_uri` judges Digest's uri."""

    authorization: str
    method: str
    via: RequestOrigin
    is_uri: Callable[[str], bool]


class Authenticator:
    """Authenticates requests. Raises ApiRefusal: 401 with the schemes offered, 429 after
    failures.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self.token_store = TokenStore(access.tokens, clock)
        self._users = Users(access.users)
        self._digest = Digest(clock)
        self._throttle = LoginThrottle(clock)
        self._log_limit = LogRateLimit(clock)
        self._nobody = ha1("", secrets.token_hex())

    async def who(self, login: LoginRequest) -> Who:
        """The user of the header; without a header the anonymous user, where that is allowed."""
        if not login.authorization:
            if (anonymous := self._anonymous(login.via)) is not None:
                return anonymous
            raise self.refusal("this needs a login")
        kind, _, rest = login.authorization.strip().partition(" ")
        match kind.lower():
            case "bearer":
                return self._bearer(rest.strip(), login.via.address)
            case "basic":
                return await self._basic(rest.strip(), login.via.address)
            case "digest":
                return self._answer(rest.strip(), login)
        raise self.refusal(f"there is no login of the kind {quote(kind)}")

    def refusal(self, detail: str, *, stale: bool = False) -> ApiRefusal:
        """401, with every scheme that is offered."""
        offers = [f'Bearer realm="{REALM}"']
        if len(self._users) or len(self.token_store):
            offers.insert(0, f'Basic realm="{REALM}", charset="UTF-8"')
        if self._users.has_digest:
            offers.insert(0, self._digest.challenge(stale=stale))
        return ApiRefusal(401, ProblemCode.UNAUTHORIZED, detail, hint=_HINT, challenges=offers)

    def _anonymous(self, via: RequestOrigin) -> Who | None:
        access = self._access
        if access.is_loopback and via.is_direct and not access.login_always:
            return LOCAL
        is_open = access.insecure and not access.login_always and not access.users
        # Behind a proxy on loopback there is a network, too, and only `insecure` opens that.
        if not is_open or self.token_store.exists:
            return None
        return replace(ANYBODY, is_welcome=lambda: not self.token_store.exists)

    def _bearer(self, secret: str, address: str) -> Who:
        if (who := self.token_store.who(secret)) is not None:
            return who
        # A guess costs a microsecond here and never hits; but the log must not fill.
        self._log_failure("a token that is not known (any more)", address)
        raise self.refusal("this token is not known, or has expired")

    async def _basic(self, text: str, address: str) -> Who:
        try:
            plain = base64.b64decode(text, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            plain = ""
        name, colon, password = plain.partition(":")
        if not colon:
            raise self.refusal("the login is malformed")
        # For clients that know nothing but user and password.
        if password.startswith(PREFIX) and (who := self.token_store.who(password)) is not None:
            return who
        self._wait(address, name)
        if (who := await self._users.who(name, password)) is None:
            raise self._wrong(address, name)
        self._throttle.passed(address, name)
        return who

    def _answer(self, text: str, login: LoginRequest) -> Who:
        fields = parse(text)
        if fields is None or not self._users.has_digest:
            raise self.refusal("the login is malformed, or of no use here")
        name, address = fields.get("username", ""), login.via.address
        self._wait(address, name)
        user = self._users.get(name)
        ha1 = user.ha1 if user else self._nobody
        verdict = self._digest.check(fields, login.method, login.is_uri, ha1)
        if verdict is Verdict.STALE and user is not None:
            raise self.refusal("the nonce has expired, or was used", stale=True)
        if verdict is Verdict.MALFORMED:
            raise self.refusal("the login is malformed, or of no use here")
        if verdict is not Verdict.RIGHT or user is None:
            raise self._wrong(address, name)
        self._throttle.passed(address, name)
        return Who(user.name, user.scopes)

    def _wait(self, address: str, name: str) -> None:
        seconds = self._throttle.wait(address, name)
        if seconds > 0:
            raise ApiRefusal(
                429,
                ProblemCode.TOO_MANY_TRIES,
                "too many logins have failed; this one was not looked at",
                hint="wait, and then try the right password",
                headers={"Retry-After": str(int(seconds) + 1)},
            )

    def _wrong(self, address: str, name: str) -> ApiRefusal:
        self._throttle.failed(address, name)
        self._log_failure(f"a wrong name or password for {quote(name)}", address)
        return self.refusal("the name or the password is wrong")

    def _log_failure(self, what: str, address: str) -> None:
        if (more := self._log_limit.ask()) is not None:
            log.warning("login refused to %s: %s%s", quote(address), what, more)
