"""What commands say on stderr: warnings, and the daemon's log."""

import logging
import os
import sys

import click

from meterd.config.settings import DeviceSettings, Settings
from meterd.daemon.link_plan import max_power
from meterd.drivers import map_omissions
from meterd.drivers.map_library import is_file, packaged
from meterd.drivers.options import ModbusOptions
from meterd.drivers.registers import RegisterMap
from meterd.model.text import escaped


def warn_of_maps(settings: Settings) -> None:
    """A map that nobody has confirmed on a device may show wrong values: say so."""
    options = [device.options for device in settings.devices.values()]
    maps = {
        one.map: one.unmoved
        for one in options
        if isinstance(one, ModbusOptions) and one.unmoved is not None
    }
    for mistake in packaged().warnings if maps else ():
        click.echo(f"warning: {mistake}", err=True)
    for name, found in sorted(maps.items(), key=lambda each: each[0]):
        if found.confidence == "low":
            text = f"warning: register map {found.name} has low confidence: check its values"
            click.echo(f"{text} against the meter's display. {found.remark}".rstrip(), err=True)
        if is_file(name) and (text := _unsaid(found)):
            told = f"`meterd maps --check {name}` tells more"
            click.echo(f"warning: register map {found.name}: {text}; {told}", err=True)


def _unsaid(found: RegisterMap) -> str:
    """Which rows of a map look as if they were not all of the meter's number."""
    rows = dict.fromkeys(row.quantity for row, *_ in map_omissions.map_warnings(found) if row)
    return f"perhaps not the whole number: {', '.join(rows)}" if rows else ""


# So many devices are named in a line that is about several.
_NAMED = 5
_TURNED = "its map counts as positive what is given: set direction: reversed"


def tell_of_values(settings: Settings, *, limits: bool = False) -> None:
    """What each device's values are multiplied by and so on; `limits`: also what can flow there.

    Devices of which the same is to be said share a line.
    """
    told: dict[str, list[str]] = {}
    for name, device in settings.devices.items():
        if not isinstance(device.options, ModbusOptions):
            continue
        for note in device.options.notes():
            told.setdefault(note, []).append(name)
        found = device.options.unmoved
        if found is not None and found.turned and device.direction == "normal":
            told.setdefault(_TURNED, []).append(name)
        if limits:
            told.setdefault(_limit(device), []).append(name)
    for text, names in told.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        kind = "warning: " if text == _TURNED else ""
        click.echo(f"{kind}{', '.join(names[:_NAMED])}{more}: {text}", err=True)


def _limit(device: DeviceSettings) -> str:
    said = device.options.power_limit
    if said is not None:
        return f"at most {said[0] / 1000:.6g} kW can flow, {said[1]}"
    return (
        f"at most {max_power(device) / 1000:.6g} kW can flow, as nobody says less: "
        "set max_power, or ct"
    )


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
