"""Where others come in while a site runs: the API with its page, and the Modbus proxy."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meterd.config.api import ApiSettings
from meterd.config.listen import is_loopback
from meterd.config.settings import ProxySettings, Settings
from meterd.daemon.reload import PreparedChange, committed, prepared, to_the_end
from meterd.errors import ConfigError, GeneralCode, MeterdError
from meterd.model.event import EventKind

if TYPE_CHECKING:
    from meterd.api.app import Assembled, Running, ServingRules
    from meterd.api.tls import Tell
    from meterd.daemon.site import Site
    from meterd.proxy.server import Proxy


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that the API depends on; a new one is opened where this differs."""

    api: ApiSettings
    tokens: Path


_Place = tuple[str, str, int]
"""Host and port; the section, too, where the port is any that is free."""
_Sockets = Mapping[_Place, "Sequence[socket.socket]"]


def _place(section: str, host: str, port: int) -> _Place:
    return section if port == 0 else "", host, port


class Servers:
    """Opens what the settings ask for, and after a reload only what differs.

    The sockets that listen are kept here: where a door changes and its address does not, the
    new one goes on with them, and whoever waits there is served by it.
    """

    def __init__(self, site: "Site") -> None:
        self.site = site
        self.api: tuple[_Wanted, Running] | None = None
        self.proxy: tuple[ProxySettings, Proxy] | None = None
        self.sockets: _Sockets = {}

    @property
    def url(self) -> str:
        """Of the page."""
        return self.api[1].url if self.api else ""

    async def open(self, settings: Settings) -> None:
        """The new door opens before the old one closes. Raises MeterdError where it cannot."""
        await to_the_end(committed(await prepared([self], settings)))

    async def close(self) -> None:
        await to_the_end(committed(await prepared([self], None)))

    async def prepare(self, settings: Settings | None) -> PreparedChange:
        """Raises MeterdError where an address is taken, nobody could log in, …"""
        change = _ServerChange(self)
        if settings is None:
            return change
        try:
            await change.prepare(settings)
        except BaseException:
            await to_the_end(change.abandon())
            raise
        return change

    def tell(self, text: str, data: Mapping[str, str | int | float | bool | None]) -> None:
        """Of a certificate, as an event."""
        self.site.event_log.note(EventKind.CERTIFICATE, text, data)


class _ServerChange:
    """The doors of other settings, or none: those that stay, and those that are opened."""

    def __init__(self, doors: Servers) -> None:
        self._doors = doors
        self._sockets: dict[_Place, Sequence[socket.socket]] = {}
        self._bound: list[socket.socket] = []  # those of them that are new
        self._wanted: _Wanted | None = None
        self._assembled: Assembled | None = None
        self._proxy_wanted: ProxySettings | None = None
        self._proxy: Proxy | None = None
        self._old_api: Running | None = None
        self._old_proxy: Proxy | None = None
        self._old_sockets: list[socket.socket] = []

    async def prepare(self, settings: Settings) -> None:
        """Raises MeterdError."""
        await self._prepare_api(settings)
        if settings.proxy is not None:
            await self._prepare_proxy(settings.proxy)

    async def _prepare_api(self, settings: Settings) -> None:
        # A quarter of a second of imports that no other command needs.
        from meterd.api.app import assemble

        api = settings.api
        self._wanted = wanted = _Wanted(api, api.token_file(settings.store.url))
        before = self._doors.api
        if before is None or before[0] != wanted:
            check_login(api, wanted.tokens)
            rules = _rules(api, wanted.tokens, self._doors.tell)
            self._assembled = await assemble(self._doors.site, api.host, rules=rules)
        await self._listen("api", api.listen, api.host, api.port)

    async def _prepare_proxy(self, wanted: ProxySettings) -> None:
        from meterd.model.clock import SystemClock
        from meterd.proxy.routes import route_finder
        from meterd.proxy.server import Proxy

        self._proxy_wanted = wanted
        sockets = await self._listen("proxy", wanted.listen, wanted.host, wanted.port)
        before = self._doors.proxy
        if before is not None and before[0].listen == wanted.listen:
            return
        find = route_finder(self._doors.site)
        self._proxy = Proxy(wanted.devices, find, clock=SystemClock(), max_age=wanted.max_age)
        await self._proxy.prepare(sockets)

    async def _listen(
        self, section: str, listen: str, host: str, port: int
    ) -> "Sequence[socket.socket]":
        """Sockets at that address: those in use, else new ones. Raises MeterdError."""
        from meterd.api.acceptor import bind

        place, used = _place(section, host, port), self._doors.sockets
        if place in self._sockets:
            raise MeterdError(
                f"{section}.listen {listen}: the api listens there", code=GeneralCode.LISTEN
            )
        sockets = used.get(place)
        if sockets is None:
            try:
                sockets = await bind(host, port, [one for some in used.values() for one in some])
            except OSError as error:
                raise _taken(section, listen, error) from error
            self._bound += sockets
        self._sockets[place] = sockets
        return sockets

    async def commit(self) -> None:
        doors = self._doors
        kept = {id(one) for some in self._sockets.values() for one in some}
        before = [one for some in doors.sockets.values() for one in some]
        self._old_sockets = [one for one in before if id(one) not in kept]
        doors.sockets = self._sockets
        await self._commit_api()
        await self._commit_proxy()

    async def _commit_api(self) -> None:
        before, wanted = self._doors.api, self._wanted
        if before is not None and (wanted is None or self._assembled is not None):
            self._old_api = before[1]
            self._old_api.turn_away()
        if wanted is None:
            self._doors.api = None
        elif self._assembled is not None:
            sockets = self._sockets[_place("api", wanted.api.host, wanted.api.port)]
            self._doors.api = wanted, self._assembled.open(sockets)

    async def _commit_proxy(self) -> None:
        before, wanted = self._doors.proxy, self._proxy_wanted
        if wanted is not None and self._proxy is None and before is not None:
            # The same address: whoever is connected stays.
            if before[0] != wanted:
                before[1].tune(wanted.devices, wanted.max_age)
            self._doors.proxy = wanted, before[1]
            return
        if before is not None:
            # Its clients are hung up at once: they watch meters that others may watch now.
            await before[1].close()
        self._doors.proxy = None
        if wanted is not None and self._proxy is not None:
            await self._proxy.open()
            self._doors.proxy = wanted, self._proxy

    async def retire(self) -> None:
        for each in self._old_sockets:
            each.close()
        if self._old_api is not None:
            is_replaced = self._doors.api is not None
            await self._old_api.close(is_replaced=is_replaced, keep_sockets=True)

    async def abandon(self) -> None:
        if self._assembled is not None:
            await self._assembled.abandon()
        if self._proxy is not None:
            await self._proxy.close()
        for each in self._bound:
            each.close()


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


def _rules(api: ApiSettings, tokens: Path, tell: "Tell") -> "ServingRules":
    from meterd.api.app import ServingRules
    from meterd.api.auth.authenticator import Access
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
    return ServingRules(access, api.trusted_proxies, api.base_path, certificate, cors=cors)


def _taken(section: str, listen: str, error: OSError) -> MeterdError:
    text = f"{section}.listen {listen}: cannot listen there: {error.strerror or error}"
    return MeterdError(text, code=GeneralCode.LISTEN)
