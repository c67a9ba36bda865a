"""The route to each Modbus meter that a running site polls."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from meterd.poll.latest import Latest
from meterd.proxy.proxied_meter import ProxyRoute

if TYPE_CHECKING:
    from meterd.daemon.site import Site


def route_finder(site: "Site") -> Callable[[str], ProxyRoute | None]:
    """Finds the route to a device of the site, as the last reload left it; None: no such meter."""

    def find(device: str) -> ProxyRoute | None:
        if (polled := site.modbus(device)) is None:
            return None
        meter, link, turn = polled
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
