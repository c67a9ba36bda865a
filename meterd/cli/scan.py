"""`meterd scan`: finds the unit ids that reply on a link, and guesses their register maps."""

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
# Values shown as evidence for a map; json has all of them.
_EVIDENCE_MAX = 3
_RANGE = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")
_UNIT_MAX = 255


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
    only = [load_map(name) for name in _split_list(maps)]
    timeout_s = seconds(timeout) if timeout else None
    if timeout and not timeout_s:
        raise ConfigError(f"--timeout {timeout!r} is no duration such as 300ms")
    tries = list(ways(address, _split_list(baud), _split_list(parity)))
    with progress_line() as line:
        bar = _StageProgress(line)
        scan = LinkScan(tries, _units(units), SystemClock(), bar, timeout=timeout_s, only=only)
        is_complete = _run(scan, only)
    if not is_complete:
        click.echo("stopped: this is what was found so far", err=True)
    rows = [_row(unit) for unit in scan.found]
    _show(rows, format_, {"link": link, "found": list(_documents(scan.found))})
    if not rows:
        click.echo(f"nobody answers on {link} (units {units})", err=True)
    return 0 if rows and is_complete else EXIT_FAILURE


def _show(rows: Sequence[dict[str, Any]], format_: str | None, document: Any) -> None:
    """Print the rows; commands to go on with stand below a table, which would wrap them."""
    table = output.effective_format(format_) == "table"
    output.show(_COLUMNS[:-1] if table else _COLUMNS, rows, format_, document)
    if table and rows:
        click.echo("\nTo go on:", err=True)
        for row in rows:
            click.echo(f"  {row['try']}", err=True)


def _run(scan: LinkScan, only: Sequence[RegisterMap]) -> bool:
    """Run the scan; False where Ctrl-C ended it."""

    async def find_and_identify() -> None:
        await scan.find()
        if any(reply.unit is not None for reply in scan.found):
            await scan.identify(only or loadable())

    try:
        asyncio.run(find_and_identify())
    except KeyboardInterrupt:
        return False
    return True


def _address(link: str, baud: str | None, parity: str | None) -> Address:
    if flaw := check_link(link):
        raise ConfigError(f"{link}: {flaw}")
    address = parse(link)
    if address.scheme != "serial" and (baud or parity):
        raise click.UsageError("--baud and --parity are for serial lines")
    if address.options.get("framer") == "ascii":
        raise ConfigError(f"{link}: scan speaks the framers socket and rtu, not ascii")
    for option, values in (("baud", _split_list(baud)), ("parity", _split_list(parity))):
        for value in values:
            if flaw := check_link(f"serial://{address.path}?{option}={value}"):
                raise ConfigError(f"--{option}: {flaw}")
    return address


def _split_list(text: str | None) -> list[str]:
    return [word for word in (text or "").replace(" ", "").split(",") if word]


def _units(text: str) -> list[int]:
    """Parse units such as `1-3,7`: each once, in the order given. Raises ConfigError."""
    units: dict[int, None] = {}
    for part in _split_list(text):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= first <= last <= _UNIT_MAX:
            raise ConfigError(f"--units {text!r}: write 1-247 or 1,2,17; units are 0 to 255")
        units.update(dict.fromkeys(range(first, last + 1)))
    if not units:
        raise ConfigError("--units names no unit: write 1-247 or 1,2,17")
    return list(units)


def _row(unit: FoundUnit) -> dict[str, Any]:
    guesses = ", ".join(f"{guess.map} ({guess.word})" for guess in unit.guesses)
    evidence = ", ".join(unit.guesses[0].because[:_EVIDENCE_MAX]) if unit.guesses else ""
    return {
        "unit": unit.unit,
        "answers_ms": None if unit.latency is None else round(unit.latency * 1000, 1),
        "maps": guesses or "none fits",
        "seen": "; ".join(filter(None, (unit.note, evidence))),
        "try": _next(unit),
    }


def _documents(units: Sequence[FoundUnit]) -> Iterator[dict[str, Any]]:
    for unit in units:
        row = _row(unit)
        yield {
            "unit": row["unit"],
            "answers_ms": row["answers_ms"],
            "url": _url(unit),
            "note": unit.note,
            "guesses": [
                {
                    "map": guess.map,
                    "score": guess.word,
                    "points": guess.score,
                    "because": list(guess.because),
                }
                for guess in unit.guesses
            ],
            "try": row["try"],
        }


def _next(unit: FoundUnit) -> str:
    """The command to go on with; quoted where it has characters of the shell."""
    url = _url(unit)
    target = f"{unit.guesses[0].map}@{url}" if unit.guesses else url
    quoted = f"'{target}'" if re.search(r"[?&*]", target) else target
    return f"meterd poll {quoted}" if unit.guesses else f"meterd probe {quoted} 0"


def _url(unit: FoundUnit) -> str:
    """The URL of the link with the options that worked, and the unit id."""
    address = unit.address
    options = {k: v for k, v in address.options.items() if (k, v) != ("framer", "socket")}
    if address.scheme == "serial":
        options |= {} if unit.unit is None else {"unit": str(unit.unit)}
        base = address.key
    else:
        base = address.key.removesuffix(f":{MODBUS_PORT}") + f"/{unit.unit}"
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{base}?{query}" if query else base


class _StageProgress:
    """The progress of a scan's stages on stderr, where there is a line."""

    def __init__(self, line: ProgressLine | None) -> None:
        self._line = line

    def begin(self, what: str, steps: int) -> None:
        if self._line is not None:
            self._line.begin(what, steps or None)

    def step(self) -> None:
        if self._line is not None:
            self._line.advance(1)
