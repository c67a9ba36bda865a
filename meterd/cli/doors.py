"""Where others come in while a site runs: the API with its page, and the Modbus proxy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meterd.config.api import ApiSettings
from meterd.config.listen import is_loopback
from meterd.config.settings import ProxySettings, Settings
from meterd.errors import ConfigError, MeterdError
from meterd.model.event import EventKind

if TYPE_CHECKING:
    from meterd.api.app import Rules, Running
    from meterd.api.tls import Tell
    from meterd.daemon.site import Site
    from meterd.proxy.server import Proxy


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that the API depends on; a new one is opened where this differs."""

    api: ApiSettings
    tokens: Path


class Doors:
    """Opens what the settings ask for, and after a reload only what differs."""

    def __init__(self, site: "Site") -> None:
        self._site = site
        self._api: tuple[_Wanted, Running] | None = None
        self._proxy: tuple[ProxySettings, Proxy] | None = None

    @property
    def url(self) -> str:
        """Of the page."""
        return self._api[1].url if self._api else ""

    async def open(self, settings: Settings) -> None:
        """The new door opens before the old one closes. Raises MeterdError where it cannot."""
        wanted = _Wanted(settings.api, settings.api.token_file(settings.store.url))
        before = self._api
        if before is None or before[0] != wanted:
            self._api = (wanted, await self._serve(wanted, before))
            if before is not None:
                await before[1].close()
        guests = self._proxy
        if (guests[0] if guests else None) != settings.proxy:
            if guests is not None:
                await guests[1].close()
            proxy = settings.proxy
            self._proxy = None if proxy is None else (proxy, await self._let_in(proxy))

    async def close(self) -> None:
        if self._proxy is not None:
            await self._proxy[1].close()
        if self._api is not None:
            await self._api[1].close()

    async def _serve(self, wanted: _Wanted, before: "tuple[_Wanted, Running] | None") -> "Running":
        # A quarter of a second of imports that no other command needs.
        from meterd.api.app import serve

        api = wanted.api
        check_login(api, wanted.tokens)
        rules = _rules(api, wanted.tokens, self._certificate_event)
        # One address cannot be listened on twice: its sockets are handed on.
        is_same = before is not None and before[0].api.listen == api.listen
        old = before[1] if before is not None and is_same else None
        try:
            return await serve(self._site, api.host, api.port, rules=rules, instead_of=old)
        except OSError as error:
            raise _taken("api", api.listen, error) from error

    def _certificate_event(
        self, text: str, data: Mapping[str, str | int | float | bool | None]
    ) -> None:
        self._site.event_log.note(EventKind.CERTIFICATE, text, data)

    async def _let_in(self, settings: ProxySettings) -> "Proxy":
        from meterd.model.clock import SystemClock
        from meterd.proxy.server import Proxy
        from meterd.proxy.site import ways

        proxy = Proxy(
            settings.devices, ways(self._site), clock=SystemClock(), max_age=settings.max_age
        )
        try:
            await proxy.start(settings.host, settings.port)
        except OSError as error:
            raise _taken("proxy", settings.listen, error) from error
        return proxy


def check_login(api: ApiSettings, tokens: Path) -> None:
    """Refuse to serve the network as long as nobody could log in.

    Raises ConfigError that says what to do, MeterdError where the file of tokens is damaged.
    """
    from meterd.api.auth.tokens import load

    is_private = is_loopback(api.host) and api.login == "auto"
    if is_private or api.users or load(tokens):
        return
    if api.insecure and api.login == "auto":
        return
    raise ConfigError(
        f"api.listen {api.listen}: nobody could log in: there is no user, and {tokens} holds no "
        "token; hint: make one with `meterd token add NAME`, add `api: users:`, or, where the "
        "network itself is trusted, say `insecure: true`"
    )


def check_certificate(api: ApiSettings, now: float) -> str:
    """What people should know of the certificate that is to be served; "" where it is well.

    `now` is Unix seconds. Raises ConfigError where its files cannot be served.
    """
    if api.tls is None:
        return ""
    from meterd.api.tls import Certificate

    try:
        found = Certificate(Path(api.tls.certificate), Path(api.tls.key)).validity
    except MeterdError as error:
        raise ConfigError(
            f"api.tls: {error}; hint: they have to be readable for the user that meterd runs as"
        ) from error
    if found is None:
        return f"{api.tls.certificate}: until when it is valid cannot be told"
    flaw = found.flaw(now)
    return f"the certificate {api.tls.certificate} {flaw}" if flaw else ""


def _rules(api: ApiSettings, tokens: Path, tell: "Tell") -> "Rules":
    from meterd.api.app import Rules
    from meterd.api.auth.locks import Access
    from meterd.api.auth.passwords import User, ha1
    from meterd.api.cors import Cors
    from meterd.api.tls import Certificate

    users = {
        name: User(
            name,
            frozenset(user.scopes),
            ha1(name, user.password) if user.password else "",
            user.password_hash or "",
        )
        for name, user in api.users.items()
    }
    access = Access(
        is_loopback=is_loopback(api.host),
        login_always=api.login == "always",
        insecure=api.insecure,
        users=users,
        tokens=tokens,
    )
    files = api.tls
    certificate = Certificate(Path(files.certificate), Path(files.key), tell) if files else None
    cors = Cors(frozenset(api.cors))
    return Rules(access, api.trusted_proxies, api.base_path, certificate, cors=cors)


def _taken(section: str, listen: str, error: OSError) -> MeterdError:
    text = f"{section}.listen {listen}: cannot listen there: {error.strerror or error}"
    return MeterdError(text, code="listen")
