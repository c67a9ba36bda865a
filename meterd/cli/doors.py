"""Where others come in while a site runs: the API with its page, and the Modbus proxy."""

from typing import TYPE_CHECKING

from meterd.config.settings import ApiSettings, Door, ProxySettings, Settings
from meterd.errors import MeterdError

if TYPE_CHECKING:
    from meterd.api.app import Running
    from meterd.daemon.site import Site
    from meterd.proxy.server import Proxy


class Doors:
    """Opens what the settings ask for, and after a reload only what differs."""

    def __init__(self, site: "Site") -> None:
        self._site = site
        self._api: tuple[ApiSettings, Running] | None = None
        self._proxy: tuple[ProxySettings, Proxy] | None = None

    @property
    def url(self) -> str:
        """Of the page."""
        return self._api[1].url if self._api else ""

    async def open(self, settings: Settings) -> None:
        """The new door opens before the old one closes. Raises MeterdError where it cannot."""
        before = self._api
        if before is None or before[0] != settings.api:
            self._api = (settings.api, await self._serve(settings.api))
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

    async def _serve(self, settings: ApiSettings) -> "Running":
        # A quarter of a second of imports that no other command needs.
        from meterd.api.app import serve

        try:
            return await serve(self._site, settings.host, settings.port)
        except OSError as error:
            raise _taken("api", settings, error) from error

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
            raise _taken("proxy", settings, error) from error
        return proxy


def _taken(section: str, settings: Door, error: OSError) -> MeterdError:
    text = f"{section}.listen {settings.listen}: cannot listen there: {error.strerror or error}"
    return MeterdError(text, code="listen")
