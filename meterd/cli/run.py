"""`meterd run`: runs the daemon with its servers until a signal."""

import asyncio
import gc
import logging
from collections.abc import Callable
from pathlib import Path

import click

from meterd.cli.configuration import config_option, load_file, load_settings
from meterd.cli.logging_setup import start_log, warn_about_maps
from meterd.config.settings import Settings
from meterd.errors import ConfigError
from meterd.model.event import EventKind

log = logging.getLogger(__name__)


@click.command(epilog="Example: meterd run -c /etc/meterd/meterd.yaml")
@config_option
@click.option("--debug", is_flag=True, help="Log more.")
def command(config: Path | None, debug: bool) -> None:
    """Poll, store, alert and serve until told to stop.

    SIGTERM and SIGINT commit everything and stop; SIGHUP reads the configuration again.
    """
    settings = load_settings(config)
    warn_about_maps(settings)
    start_log(debug=debug)

    def ready(url: str) -> None:
        log.info("%d devices, listening on %s", len(settings.devices), url)

    try:
        asyncio.run(serve(settings, ready, reload=lambda: load_settings(config)))
    except ConfigError:
        # Read once more: the positions of all keys are not kept while it runs.
        with load_file(config).placed_errors():
            raise


async def serve(
    settings: Settings,
    ready: Callable[[str], None],
    reload: Callable[[], Settings] | None = None,
) -> None:
    """Run a site with its servers until a signal; `ready` gets the URL of the page.

    `reload` loads the settings again, on SIGHUP. Raises ConfigError or StoreError where the site
    cannot start.
    """
    # Imported and installed first, so that a signal during the start stops it in order.
    from meterd.daemon.service import Signals, notify, watch

    async def apply_reloaded(read: Callable[[], Settings]) -> None:
        # In a thread: parsing a thousand devices takes a second, and polls go on meanwhile.
        new = await asyncio.to_thread(read)
        await site.apply(new)
        text = f"reloaded: {len(new.devices)} devices, listening on {servers.url}"
        site.event_log.note(EventKind.RELOADED, text)

    def note_failed_reload(error: Exception) -> None:
        text = f"not reloaded, all goes on as before:\n{error}"
        site.event_log.note(EventKind.RELOAD_FAILED, text)

    signals = Signals(
        None if reload is None else lambda: apply_reloaded(reload), note_failed_reload
    )
    # Half a second of imports that no other command needs.
    from meterd.cli.servers import Servers
    from meterd.daemon.site import Site
    from meterd.daemon.store_wait import apply_when_free
    from meterd.model.clock import SystemClock

    clock = SystemClock()
    site = Site(clock)
    servers = Servers(site)
    site.join(servers)
    try:
        if not await signals.unless_stopped(
            apply_when_free(lambda: site.apply(settings), settings, site.event_log, clock)
        ):
            return
        # All objects until here live until the end: the garbage collector need not scan them.
        gc.collect()
        gc.freeze()
        watchdog = asyncio.create_task(watch(site.overdue))
        notify("READY=1")
        ready(servers.url)
        signals.serve_reloads()
        await signals.stopped()
        notify("STOPPING=1")
        watchdog.cancel()
    finally:
        await site.close()
