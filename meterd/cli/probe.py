"""`meterd probe`: one register in every type and order, and its neighbours beside it."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import _unit as split_unit
from meterd.cli.main import EXIT_FAILURE
from meterd.config.link_urls import check_link
from meterd.drivers.probing import Decoding, decodings
from meterd.errors import ConfigError, DeviceError, LinkCode, LinkError
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from meterd.wire.modbus import ILLEGAL_FUNCTION, ModbusClient, Refused

_COLUMNS = ("function", "type", "order", "before", "here", "after", "looks_like")
# Manuals count from 1 or from 0: the register meant is one of these.
_PLACES = {"before": -1, "here": 0, "after": 1}
_REFERENCE = re.compile(r"(?P<bank>[34])(?P<number>\d{4}|\d{5})")
_FUNCTIONS = {"3": 4, "4": 3}
_WIDEST = 4
_LAST = 0xFFFF
# Where silence takes the place of a refusal, it is not waited for long; in seconds.
_TIMEOUT = 1.0


@dataclass(slots=True)
class ProbedDecodings:
    """What a function gave around an address: decodings by place."""

    function: int
    values: dict[str, list[Decoding]] = field(default_factory=dict)


@click.command(
    epilog="""\b
Examples:
  meterd probe tcp://192.0.2.5:502/1 0
  meterd probe 'tcp://192.0.2.5:4196/1?framer=rtu' 0x0034 --function 4
  meterd probe 'serial:///dev/ttyUSB0?baud=9600&unit=1' 40073
\b
ADDRESS is zero-based as sent (70, 0x46), or a reference that counts from 1:
30071 is input register 70 (function 4), 40071 is holding register 70
(function 3). With --function the number is always the address itself.
"""
)
@click.argument("target")
@click.argument("address")
@click.option("--function", type=click.Choice(["3", "4"]), help="Else both, or the reference's.")
@click.option(
    "--count",
    default=_WIDEST,
    show_default=True,
    type=click.IntRange(1, 125),
    help="Registers to read: 4 for 64 bits, more for a text.",
)
@output.format_option
def command(
    target: str, address: str, function: str | None, count: int, format_: str | None
) -> int:
    """Show one register in every decoding, and those that begin one before and one after it.

    Orders: ABCD as sent, CDAB words swapped, BADC bytes swapped, DCBA both. Never writes.
    """
    url, unit = _target(target)
    place, functions = _address(address, function)
    click.echo(
        f"asking unit {unit} for address {place} (0x{place:04X}), zero-based as sent, "
        f"function {' and '.join(map(str, functions))}",
        err=True,
    )
    found = asyncio.run(_probe(url, unit, place, functions, count))
    rows = [row for one in found for row in _rows(one)]
    output.show(_COLUMNS, rows, format_, {"unit": unit, "address": place, "decodings": rows})
    return 0 if rows else EXIT_FAILURE


def _target(target: str) -> tuple[str, int]:
    """URL and unit. A map in front of an @ is what `poll` needs; here it does no harm."""
    url, unit = split_unit(re.sub(r"^[^@/:]+@", "", target))
    if wrong := check_link(url):
        raise ConfigError(f"{target}: {wrong}; write tcp://HOST:502/UNIT")
    unit = 1 if unit is None else unit
    if unit > 255:
        raise ConfigError(f"{target}: unit {unit}, allowed 0..255")
    return url, unit


def _address(text: str, function: str | None) -> tuple[int, tuple[int, ...]]:
    """The zero-based address, and the functions to ask with."""
    functions = (int(function),) if function else (3, 4)
    reference = _REFERENCE.fullmatch(text)
    if reference and not function and 1 <= int(reference["number"]) <= _LAST + 1:
        return int(reference["number"]) - 1, (_FUNCTIONS[reference["bank"]],)
    try:
        place = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError as error:
        raise ConfigError(f"address {text!r}: write 70, 0x46, 30071 or 40071") from error
    if not 0 <= place <= _LAST:
        raise ConfigError(f"address {text}: allowed 0..{_LAST}, or a reference such as 40071")
    return place, functions


async def _probe(
    url: str, unit: int, place: int, functions: Sequence[int], count: int
) -> list[ProbedDecodings]:
    address = parse(url)
    times = Times(timeout=address.duration("timeout") or _TIMEOUT)
    link = open_link(address, defaults={}, times=times)
    client = ModbusClient(link, unit)
    found = [ProbedDecodings(function) for function in functions]
    try:
        for one in found:
            for name, offset in _PLACES.items():
                if 0 <= place + offset <= _LAST:
                    data = await _read(client, one.function, place + offset, count)
                    one.values[name] = list(decodings(data)) if data else []
    finally:
        await link.close()
    return found


async def _read(client: ModbusClient, function: int, address: int, count: int) -> bytes:
    """As many registers as the meter gives in one request; none where it refuses all."""
    refusal: DeviceError | None = None
    for words in sorted({count, *(n for n in (4, 2, 1) if n < count)}, reverse=True):
        if address + words > _LAST + 1:
            continue
        try:
            return await client.read(function, address, words)
        except DeviceError as error:
            refusal = error
            if isinstance(error, Refused) and error.exception == ILLEGAL_FUNCTION:
                break
        except LinkError as error:
            if error.code != LinkCode.TIMEOUT:
                raise
            _say(function, address, "no answer")
            return b""
    _say(function, address, str(refusal))
    return b""


def _say(function: int, address: int, what: str) -> None:
    click.echo(f"function {function}, address {address}: {what}", err=True)


def _rows(found: ProbedDecodings) -> Iterator[dict[str, Any]]:
    """One row a type and order, in the order of the widest reply."""
    each = {name: {(d.type, d.order): d for d in values} for name, values in found.values.items()}
    widest = max(each.values(), key=len, default={})
    for key in widest:
        here = {name: by_key[key] for name, by_key in each.items() if key in by_key}
        marks = [f"{name}: {one.looks_like}" for name, one in here.items() if one.looks_like]
        yield {
            "function": found.function,
            "type": key[0],
            "order": key[1],
            **{name: here[name].value if name in here else None for name in _PLACES},
            "looks_like": ", ".join(marks),
        }
