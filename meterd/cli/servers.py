"""The servers of a running site: the HTTP API with its page, and the Modbus proxy."""

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
class _ApiOptions:
    """All settings that the API depends on; where they differ it is opened anew."""

    api: ApiSettings
    tokens: Path


_ListenAddress = tuple[str, str, int]
"""(section, host, port); section is "" unless the port is 0: any free one."""
_Sockets = Mapping[_ListenAddress, "Sequence[socket.socket]"]


def _listen_address(section: str, host: str, port: int) -> _ListenAddress:
    return section if port == 0 else "", host, port


class Servers:
    """Opens the servers of the settings, and after a reload only those that differ.

    It owns the listening sockets: where a server is replaced at the same address, the new one
    takes them over, and connections that wait in the backlog are accepted by it.
    """

    def __init__(self, site: "Site") -> None:
        self.site = site
        self.api: tuple[_ApiOptions, Running] | None = None
        self.proxy: tuple[ProxySettings, Proxy] | None = None
        self.sockets: _Sockets = {}

    @property
    def url(self) -> str:
        """The URL of the page; empty where the API is not open."""
        return self.api[1].url if self.api else ""

    async def open(self, settings: Settings) -> None:
        """Open the servers of the settings, then close replaced ones. Raises MeterdError."""
        await to_the_end(committed(await prepared([self], settings)))

    async def close(self) -> None:
        await to_the_end(committed(await prepared([self], None)))

    async def prepare(self, settings: Settings | None) -> PreparedChange:
        """Prepare a reload. Raises MeterdError: address in use, no user who could log in, …"""
        change = _ServerChange(self)
        if settings is None:
            return change
        try:
            await change.prepare(settings)
        except BaseException:
            await to_the_end(change.abandon())
            raise
        return change

    def note_certificate(
        self, text: str, data: Mapping[str, str | int | float | bool | None]
    ) -> None:
        """Note an event of the certificate."""
        self.site.event_log.note(EventKind.CERTIFICATE, text, data)


class _ServerChange:
    """A prepared change of the servers: those kept, those to open and those to close."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._sockets: dict[_ListenAddress, Sequence[socket.socket]] = {}
        self._bound: list[socket.socket] = []  # the new ones of them
        self._api_options: _ApiOptions | None = None
        self._assembled: Assembled | None = None
        self._proxy_settings: ProxySettings | None = None
        self._proxy: Proxy | None = None
        self._old_api: Running | None = None
        self._old_proxy: Proxy | None = None
        self._old_sockets: list[socket.socket] = []

    async def prepare(self, settings: Settings) -> None:
        """Bind the sockets and build the servers. Raises MeterdError."""
        await self._prepare_api(settings)
        if settings.proxy is not None:
            await self._prepare_proxy(settings.proxy)

    async def _prepare_api(self, settings: Settings) -> None:
        # 0.25 s of imports that no other command needs.
        from meterd.api.app import assemble

        api = settings.api
        self._api_options = options = _ApiOptions(api, api.token_file(settings.store.url))
        current = self._servers.api
        if current is None or current[0] != options:
            check_login(api, options.tokens)
            rules = _serving_rules(api, options.tokens, self._servers.note_certificate)
            self._assembled = await assemble(self._servers.site, api.host, rules=rules)
        await self._listen("api", api.listen, api.host, api.port)

    async def _prepare_proxy(self, settings: ProxySettings) -> None:
        from meterd.model.clock import SystemClock
        from meterd.proxy.routes import route_finder
        from meterd.proxy.server import Proxy

        self._proxy_settings = settings
        sockets = await self._listen("proxy", settings.listen, settings.host, settings.port)
        current = self._servers.proxy
        if current is not None and current[0].listen == settings.listen:
            return
        find = route_finder(self._servers.site)
        self._proxy = Proxy(settings.devices, find, clock=SystemClock(), max_age=settings.max_age)
        await self._proxy.prepare(sockets)

    async def _listen(
        self, section: str, listen: str, host: str, port: int
    ) -> "Sequence[socket.socket]":
        """The sockets of the address: those in use already, else new ones. Raises MeterdError."""
        from meterd.api.acceptor import bind

        address, used = _listen_address(section, host, port), self._servers.sockets
        if address in self._sockets:
            raise MeterdError(
                f"{section}.listen {listen}: the api listens there", code=GeneralCode.LISTEN
            )
        sockets = used.get(address)
        if sockets is None:
            try:
                sockets = await bind(
                    host, port, [listener for group in used.values() for listener in group]
                )
            except OSError as error:
                raise _listen_error(section, listen, error) from error
            self._bound += sockets
        self._sockets[address] = sockets
        return sockets

    async def commit(self) -> None:
        servers = self._servers
        kept = {id(listener) for group in self._sockets.values() for listener in group}
        before = [listener for group in servers.sockets.values() for listener in group]
        self._old_sockets = [listener for listener in before if id(listener) not in kept]
        servers.sockets = self._sockets
        await self._commit_api()
        await self._commit_proxy()

    async def _commit_api(self) -> None:
        current, options = self._servers.api, self._api_options
        if current is not None and (options is None or self._assembled is not None):
            self._old_api = current[1]
            self._old_api.turn_away()
        if options is None:
            self._servers.api = None
        elif self._assembled is not None:
            sockets = self._sockets[_listen_address("api", options.api.host, options.api.port)]
            self._servers.api = options, self._assembled.open(sockets)

    async def _commit_proxy(self) -> None:
        current, settings = self._servers.proxy, self._proxy_settings
        if settings is not None and self._proxy is None and current is not None:
            # The same address: connections stay open.
            if current[0] != settings:
                current[1].tune(settings.devices, settings.max_age)
            self._servers.proxy = settings, current[1]
            return
        if current is not None:
            # Closed before the new one opens: its unit ids may now stand for other devices.
            await current[1].close()
        self._servers.proxy = None
        if settings is not None and self._proxy is not None:
            await self._proxy.open()
            self._servers.proxy = settings, self._proxy

    async def retire(self) -> None:
        for listener in self._old_sockets:
            listener.close()
        if self._old_api is not None:
            is_replaced = self._servers.api is not None
            await self._old_api.close(is_replaced=is_replaced, keep_sockets=True)

    async def abandon(self) -> None:
        if self._assembled is not None:
            await self._assembled.abandon()
        if self._proxy is not None:
            await self._proxy.close()
        for listener in self._bound:
            listener.close()


def check_login(api: ApiSettings, tokens: Path) -> None:
    """Refuse to serve the network while there is neither a user nor a token.

    Raises ConfigError, and MeterdError where the token file is damaged.
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
    """A warning about the certificate, such as its expiry; "" where it is valid.

    `now` is Unix seconds. Raises ConfigError where its files cannot be used.
    """
    if api.tls is None:
        return ""
    from meterd.api.tls import Certificate

    try:
        validity = Certificate(Path(api.tls.certificate), Path(api.tls.key)).validity
    except MeterdError as error:
        raise ConfigError(
            f"api.tls: {error}; hint: they have to be readable for the user that meterd runs as"
        ) from error
    if validity is None:
        return f"{api.tls.certificate}: until when it is valid cannot be told"
    flaw = validity.flaw(now)
    return f"the certificate {api.tls.certificate} {flaw}" if flaw else ""


def _serving_rules(api: ApiSettings, tokens: Path, tell: "Tell") -> "ServingRules":
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


def _listen_error(section: str, listen: str, error: OSError) -> MeterdError:
    text = f"{section}.listen {listen}: cannot listen there: {error.strerror or error}"
    return MeterdError(text, code=GeneralCode.LISTEN)
