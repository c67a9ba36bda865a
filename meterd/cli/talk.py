"""What commands say on stderr: warnings, and the daemon's log."""

import logging
import os
import sys

import click

from meterd.config.settings import Settings
from meterd.drivers.library import SUNSPEC, load_map
from meterd.model.text import escaped


def warn_of_maps(settings: Settings) -> None:
    """A map that nobody has confirmed on a device may show wrong values: say so."""
    names = {getattr(device.options, "map", None) for device in settings.devices.values()}
    for name in sorted(filter(None, names - {SUNSPEC})):
        found = load_map(name)
        if found.confidence == "low":
            text = f"warning: register map {found.name} has low confidence: check its values"
            click.echo(f"{text} against the meter's display. {found.remark}".rstrip(), err=True)


class OneEntry(logging.Formatter):
    """What devices and plug-ins say is shown as text, and begins no line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record), "\n\t").replace("\n", "\n    ")


def start_log(*, debug: bool = False) -> None:
    """Lines on stderr; under systemd without time and with the level as journald reads it."""
    journal = "JOURNAL_STREAM" in os.environ
    line = "%(levelname)-7s %(name)s: %(message)s"
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(OneEntry(line if journal else f"%(asctime)s {line}"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[output])
    # pymodbus logs every frame that its framers do not like; the wire counts them instead.
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    for chatty in ("asyncio", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
