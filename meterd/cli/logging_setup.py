"""Messages on stderr: warnings about maps and devices, and the set-up of the log."""

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


def warn_about_maps(settings: Settings) -> None:
    """Warn of maps with low confidence, and of a user's maps that omit parts of numbers."""
    options = [device.options for device in settings.devices.values()]
    maps = {
        option_set.map: option_set.unmoved
        for option_set in options
        if isinstance(option_set, ModbusOptions) and option_set.unmoved is not None
    }
    for warning in packaged().warnings if maps else ():
        click.echo(f"warning: {warning}", err=True)
    for name, register_map in sorted(maps.items(), key=lambda item: item[0]):
        if register_map.confidence == "low":
            text = f"warning: register map {register_map.name} has low confidence: check its values"
            click.echo(
                f"{text} against the meter's display. {register_map.remark}".rstrip(), err=True
            )
        if is_file(name) and (text := _omissions(register_map)):
            pointer = f"`meterd maps --check {name}` tells more"
            click.echo(f"warning: register map {register_map.name}: {text}; {pointer}", err=True)


def _omissions(register_map: RegisterMap) -> str:
    """The rows of a map that may read only a part of the meter's number."""
    rows = dict.fromkeys(
        row.quantity for row, *_ in map_omissions.map_warnings(register_map) if row
    )
    return f"perhaps not the whole number: {', '.join(rows)}" if rows else ""


# A line names this many of the devices with the same note, and the number of the others.
_LINE_MAX_DEVICES = 5
_REVERSED_HINT = "its map counts as positive what is given: set direction: reversed"


def print_value_notes(settings: Settings, *, limits: bool = False) -> None:
    """Print notes on each device's values, such as CT ratios; `limits`: power limits, too.

    Devices with the same note share a line.
    """
    devices_of: dict[str, list[str]] = {}
    for name, device in settings.devices.items():
        if not isinstance(device.options, ModbusOptions):
            continue
        for note in device.options.notes():
            devices_of.setdefault(note, []).append(name)
        register_map = device.options.unmoved
        if register_map is not None and register_map.turned and device.direction == "normal":
            devices_of.setdefault(_REVERSED_HINT, []).append(name)
        if limits:
            devices_of.setdefault(_power_limit_text(device), []).append(name)
    for text, names in devices_of.items():
        more = (
            f" and {len(names) - _LINE_MAX_DEVICES} more" if len(names) > _LINE_MAX_DEVICES else ""
        )
        kind = "warning: " if text == _REVERSED_HINT else ""
        click.echo(f"{kind}{', '.join(names[:_LINE_MAX_DEVICES])}{more}: {text}", err=True)


def _power_limit_text(device: DeviceSettings) -> str:
    limit = device.options.power_limit
    if limit is not None:
        return f"at most {limit[0] / 1000:.6g} kW can flow, {limit[1]}"
    return (
        f"at most {max_power(device) / 1000:.6g} kW can flow, as nobody says less: "
        "set max_power, or ct"
    )


class EscapingFormatter(logging.Formatter):
    """Escapes control characters and indents further lines, so that no text can forge an entry."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record), "\n\t").replace("\n", "\n    ")


def start_log(*, debug: bool = False) -> None:
    """Log to stderr, under systemd (JOURNAL_STREAM is set) without the time, which journald has."""
    journal = "JOURNAL_STREAM" in os.environ
    line = "%(levelname)-7s %(name)s: %(message)s"
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(EscapingFormatter(line if journal else f"%(asctime)s {line}"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[output])
    # pymodbus logs every frame that its framers refuse; meterd.wire counts them.
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    for name in ("asyncio", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
