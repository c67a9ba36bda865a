"""`meterd scan`: who answers on a bus, and which register map each of them seems to have."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from meterd.cli import output
from meterd.cli.main import EXIT_FAILURE
from meterd.cli.progress import ProgressLine, progress_line
from meterd.config.link_urls import check_link
from meterd.drivers.link_scan import FoundUnit, LinkScan, ways
from meterd.drivers.map_library import load_map, loadable
from meterd.drivers.registers import RegisterMap
from meterd.errors import ConfigError
from meterd.model.clock import SystemClock
from meterd.model.duration import seconds
from meterd.wire.address import MODBUS_PORT, Address, parse

_COLUMNS = ("unit", "answers_ms", "maps", "seen", "try")
# Of the values that speak for a map so many are shown; json has them all.
_SEEN = 3
_RANGE = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")
_HIGHEST_UNIT = 255


@click.command(
    epilog="""\b
Examples:
  meterd scan tcp://192.0.2.7
  meterd scan 'tcp://192.0.2.7:4196?framer=rtu' --units 1-20
  meterd scan serial:///dev/ttyUSB0 --baud 9600,19200 --parity N,E
  meterd scan tcp://192.0.2.7 --map eastron_sdm630,eastron_sdm120
\b
All 247 units of a line of 9600 baud take about two minutes; Ctrl-C ends it
sooner and shows what was found. Nothing is ever written to a device.
"""
)
@click.argument("link")
@click.option("--units", default="1-247", show_default=True, help="Such as 1-20 or 1,2,17.")
@click.option("--baud", help="Speeds to try, such as 9600,19200; else the URL's.")
@click.option("--parity", help="Parities to try, such as N,E; else the URL's.")
@click.option("--map", "maps", help="Only guess among these maps (names or files).")
@click.option("--timeout", help="Wait so long for each unit, such as 300ms; else computed.")
@output.format_option
def command(
    link: str,
    units: str,
    baud: str | None,
    parity: str | None,
    maps: str | None,
    timeout: str | None,
    format_: str | None,
) -> int:
    """Ask every unit of a link whether it is there, and guess its register map.

    On tcp:// both kinds of frames are tried unless the URL says which. On a serial line where
    no meter answers a UPS is looked for. An exception is an answer, too.
    """
    address = _address(link, baud, parity)
    only = [load_map(name) for name in _listed(maps)]
    patience = seconds(timeout) if timeout else None
    if timeout and not patience:
        raise ConfigError(f"--timeout {timeout!r} is no duration such as 300ms")
    tries = list(ways(address, _listed(baud), _listed(parity)))
    with progress_line() as line:
        bar = _Bar(line)
        survey = LinkScan(tries, _units(units), SystemClock(), bar, timeout=patience, only=only)
        done = _run(survey, only)
    if not done:
        click.echo("stopped: this is what was found so far", err=True)
    rows = [_row(found) for found in survey.found]
    _show(rows, format_, {"link": link, "found": list(_documents(survey.found))})
    if not rows:
        click.echo(f"nobody answers on {link} (units {units})", err=True)
    return 0 if rows and done else EXIT_FAILURE


def _show(rows: Sequence[dict[str, Any]], format_: str | None, document: Any) -> None:
    """In a table a command would be folded; below it, it can be copied."""
    table = output.chosen(format_) == "table"
    output.show(_COLUMNS[:-1] if table else _COLUMNS, rows, format_, document)
    if table and rows:
        click.echo("\nTo go on:", err=True)
        for row in rows:
            click.echo(f"  {row['try']}", err=True)


def _run(survey: LinkScan, only: Sequence[RegisterMap]) -> bool:
    """False if somebody pressed Ctrl-C."""

    async def both() -> None:
        await survey.find()
        if any(found.unit is not None for found in survey.found):
            await survey.identify(only or loadable())

    try:
        asyncio.run(both())
    except KeyboardInterrupt:
        return False
    return True


def _address(link: str, baud: str | None, parity: str | None) -> Address:
    if wrong := check_link(link):
        raise ConfigError(f"{link}: {wrong}")
    address = parse(link)
    if address.scheme != "serial" and (baud or parity):
        raise click.UsageError("--baud and --parity are for serial lines")
    if address.options.get("framer") == "ascii":
        raise ConfigError(f"{link}: scan speaks the framers socket and rtu, not ascii")
    for option, values in (("baud", _listed(baud)), ("parity", _listed(parity))):
        for value in values:
            if wrong := check_link(f"serial://{address.path}?{option}={value}"):
                raise ConfigError(f"--{option}: {wrong}")
    return address


def _listed(text: str | None) -> list[str]:
    return [word for word in (text or "").replace(" ", "").split(",") if word]


def _units(text: str) -> list[int]:
    """The units of `1-3,7`, each once, in their order. Raises ConfigError."""
    units: dict[int, None] = {}
    for part in _listed(text):
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not 0 <= first <= last <= _HIGHEST_UNIT:
            raise ConfigError(f"--units {text!r}: write 1-247 or 1,2,17; units are 0 to 255")
        units.update(dict.fromkeys(range(first, last + 1)))
    if not units:
        raise ConfigError("--units names no unit: write 1-247 or 1,2,17")
    return list(units)


def _row(found: FoundUnit) -> dict[str, Any]:
    guesses = ", ".join(f"{guess.map} ({guess.word})" for guess in found.guesses)
    seen = ", ".join(found.guesses[0].because[:_SEEN]) if found.guesses else ""
    return {
        "unit": found.unit,
        "answers_ms": None if found.latency is None else round(found.latency * 1000, 1),
        "maps": guesses or "none fits",
        "seen": "; ".join(filter(None, (found.note, seen))),
        "try": _next(found),
    }


def _documents(found: Sequence[FoundUnit]) -> Iterator[dict[str, Any]]:
    for one in found:
        row = _row(one)
        yield {
            "unit": row["unit"],
            "answers_ms": row["answers_ms"],
            "url": _url(one),
            "note": one.note,
            "guesses": [
                {"map": g.map, "score": g.word, "points": g.score, "because": list(g.because)}
                for g in one.guesses
            ],
            "try": row["try"],
        }


def _next(found: FoundUnit) -> str:
    """The command to go on with; quoted where a shell would see more in it."""
    url = _url(found)
    target = f"{found.guesses[0].map}@{url}" if found.guesses else url
    quoted = f"'{target}'" if re.search(r"[?&*]", target) else target
    return f"meterd poll {quoted}" if found.guesses else f"meterd probe {quoted} 0"


def _url(found: FoundUnit) -> str:
    """The link with the settings that were found to work, and the unit."""
    address = found.address
    options = {k: v for k, v in address.options.items() if (k, v) != ("framer", "socket")}
    if address.scheme == "serial":
        options |= {} if found.unit is None else {"unit": str(found.unit)}
        place = address.key
    else:
        place = address.key.removesuffix(f":{MODBUS_PORT}") + f"/{found.unit}"
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{place}?{query}" if query else place


class _Bar:
    """The stages of a scan as a line on stderr, where there is one."""

    def __init__(self, line: ProgressLine | None) -> None:
        self._line = line

    def begin(self, what: str, steps: int) -> None:
        if self._line is not None:
            self._line.begin(what, steps or None)

    def step(self) -> None:
        if self._line is not None:
            self._line.advance(1)
