"""What the proxy needs of a running site; the daemon's Site fits it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from meterd.drivers.registers import RegisterMap
from meterd.poll.latest import Latest
from meterd.proxy.proxied_meter import Client, ProxyRoute


class ProxyLink(Protocol):
    """Of a link: its name, and how its frames look."""

    @property
    def url(self) -> str: ...
    @property
    def options(self) -> Mapping[str, str]: ...


class Meter(Protocol):
    """A driver that reads registers through one client; `map` says what it must not touch."""

    @property
    def map(self) -> RegisterMap: ...
    @property
    def client(self) -> Client: ...


class ProxySite(Protocol):
    """A running site."""

    @property
    def latest(self) -> Latest: ...

    def modbus(self, device: str) -> tuple[Meter, ProxyLink, asyncio.Lock] | None:
        """A polled Modbus device, its link, and the lock that its bus holds for each poll."""


def ways(site: ProxySite) -> Callable[[str], ProxyRoute | None]:
    """Finds the way to a device of the site, as the last reload left it."""

    def find(device: str) -> ProxyRoute | None:
        if (found := site.modbus(device)) is None:
            return None
        meter, link, turn = found
        return ProxyRoute(
            link=link.url,
            client=meter.client,
            turn=turn,
            up=lambda: _up(site.latest, device),
            told_apart=link.options["framer"] == "socket",
            most=meter.map.max_registers,
            unreadable=meter.map.unreadable,
        )

    return find


def _up(latest: Latest, device: str) -> bool:
    """A device that was never polled yet may well answer."""
    state = latest.states.get(device)
    return state is None or state.up is not False
