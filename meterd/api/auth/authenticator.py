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
    """Who may come in. `is_loopback`: only this machine can reach the address.

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
    """Tells who is asking. Raises ApiRefusal: 401 with what is offered, 429 to those who guess."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self.keyring = TokenStore(access.tokens, clock)
        self._users = Users(access.users)
        self._digest = Digest(clock)
        self._patience = LoginThrottle(clock)
        self._quiet = LogRateLimit(clock)
        self._nobody = ha1("", secrets.token_hex())

    async def who(self, asked: LoginRequest) -> Who:
        """Whoever the header proves it to be; without a header, whoever needs none."""
        if not asked.authorization:
            if (anonymous := self._anonymous(asked.via)) is not None:
                return anonymous
            raise self.refusal("this needs a login")
        kind, _, rest = asked.authorization.strip().partition(" ")
        match kind.lower():
            case "bearer":
                return self._bearer(rest.strip(), asked.via.address)
            case "basic":
                return await self._basic(rest.strip(), asked.via.address)
            case "digest":
                return self._answer(rest.strip(), asked)
        raise self.refusal(f"there is no login of the kind {quote(kind)}")

    def refusal(self, detail: str, *, stale: bool = False) -> ApiRefusal:
        """401, with every way to log in that there is."""
        offers = [f'Bearer realm="{REALM}"']
        if len(self._users) or len(self.keyring):
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
        if not is_open or self.keyring.exists:
            return None
        return replace(ANYBODY, is_welcome=lambda: not self.keyring.exists)

    def _bearer(self, secret: str, address: str) -> Who:
        if (who := self.keyring.who(secret)) is not None:
            return who
        # A guess costs a microsecond here and never hits; but the log must not fill.
        self._tell("a token that is not known (any more)", address)
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
        if password.startswith(PREFIX) and (who := self.keyring.who(password)) is not None:
            return who
        self._wait(address, name)
        if (who := await self._users.who(name, password)) is None:
            raise self._wrong(address, name)
        self._patience.passed(address, name)
        return who

    def _answer(self, text: str, asked: LoginRequest) -> Who:
        given = parse(text)
        if given is None or not self._users.has_digest:
            raise self.refusal("the login is malformed, or of no use here")
        name, address = given.get("username", ""), asked.via.address
        self._wait(address, name)
        user = self._users.get(name)
        kept = user.ha1 if user else self._nobody
        verdict = self._digest.check(given, asked.method, asked.is_uri, kept)
        if verdict is Verdict.STALE and user is not None:
            raise self.refusal("the nonce has expired, or was used", stale=True)
        if verdict is Verdict.MALFORMED:
            raise self.refusal("the login is malformed, or of no use here")
        if verdict is not Verdict.RIGHT or user is None:
            raise self._wrong(address, name)
        self._patience.passed(address, name)
        return Who(user.name, user.scopes)

    def _wait(self, address: str, name: str) -> None:
        seconds = self._patience.wait(address, name)
        if seconds > 0:
            raise ApiRefusal(
                429,
                ProblemCode.TOO_MANY_TRIES,
                "too many logins have failed; this one was not looked at",
                hint="wait, and then try the right password",
                headers={"Retry-After": str(int(seconds) + 1)},
            )

    def _wrong(self, address: str, name: str) -> ApiRefusal:
        self._patience.failed(address, name)
        self._tell(f"a wrong name or password for {quote(name)}", address)
        return self.refusal("the name or the password is wrong")

    def _tell(self, what: str, address: str) -> None:
        if (more := self._quiet.ask()) is not None:
            log.warning("login refused to %s: %s%s", quote(address), what, more)
