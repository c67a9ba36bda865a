"""`meterd probe`: decodes a register and its neighbours in every type and word order."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import split_unit
from meterd.cli.main import EXIT_FAILURE
from meterd.config.link_urls import check_link
from meterd.drivers.probing import Decoding, decodings
from meterd.errors import ConfigError, DeviceError, LinkCode, LinkError
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Times
from meterd.wire.modbus import ILLEGAL_FUNCTION, ModbusClient, Refused

_COLUMNS = ("function", "type", "order", "before", "here", "after", "looks_like")
# Manuals count registers from 0 or from 1: the one meant is one of these.
_OFFSETS = {"before": -1, "here": 0, "after": 1}
_REFERENCE = re.compile(r"(?P<bank>[34])(?P<number>\d{4}|\d{5})")
_REFERENCE_FUNCTIONS = {"3": 4, "4": 3}
_COUNT_DEFAULT = 4
_ADDRESS_MAX = 0xFFFF
# Some meters do not reply instead of an exception: a short timeout for each read.
_TIMEOUT_S = 1.0


@dataclass(slots=True)
class ProbedDecodings:
    """The decodings that one function gave, by their offset: before, here or after."""

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
    default=_COUNT_DEFAULT,
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
    register, functions = _address(address, function)
    click.echo(
        f"asking unit {unit} for address {register} (0x{register:04X}), zero-based as sent, "
        f"function {' and '.join(map(str, functions))}",
        err=True,
    )
    probed = asyncio.run(_probe(url, unit, register, functions, count))
    rows = [row for decoded in probed for row in _rows(decoded)]
    output.show(_COLUMNS, rows, format_, {"unit": unit, "address": register, "decodings": rows})
    return 0 if rows else EXIT_FAILURE


def _target(target: str) -> tuple[str, int]:
    """URL and unit id of the argument; a MAP@ before the URL, as `poll` takes it, is ignored."""
    url, unit = split_unit(re.sub(r"^[^@/:]+@", "", target))
    if flaw := check_link(url):
        raise ConfigError(f"{target}: {flaw}; write tcp://HOST:502/UNIT")
    unit = 1 if unit is None else unit
    if unit > 255:
        raise ConfigError(f"{target}: unit {unit}, allowed 0..255")
    return url, unit


def _address(text: str, function: str | None) -> tuple[int, tuple[int, ...]]:
    """The zero-based address, and the function codes to read it with."""
    functions = (int(function),) if function else (3, 4)
    reference = _REFERENCE.fullmatch(text)
    if reference and not function and 1 <= int(reference["number"]) <= _ADDRESS_MAX + 1:
        return int(reference["number"]) - 1, (_REFERENCE_FUNCTIONS[reference["bank"]],)
    try:
        register = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError as error:
        raise ConfigError(f"address {text!r}: write 70, 0x46, 30071 or 40071") from error
    if not 0 <= register <= _ADDRESS_MAX:
        raise ConfigError(
            f"address {text}: allowed 0..{_ADDRESS_MAX}, or a reference such as 40071"
        )
    return register, functions


async def _probe(
    url: str, unit: int, register: int, functions: Sequence[int], count: int
) -> list[ProbedDecodings]:
    address = parse(url)
    times = Times(timeout=address.duration("timeout") or _TIMEOUT_S)
    link = open_link(address, defaults={}, times=times)
    client = ModbusClient(link, unit)
    probed = [ProbedDecodings(function) for function in functions]
    try:
        for decoded in probed:
            for name, offset in _OFFSETS.items():
                if 0 <= register + offset <= _ADDRESS_MAX:
                    data = await _read(client, decoded.function, register + offset, count)
                    decoded.values[name] = list(decodings(data)) if data else []
    finally:
        await link.close()
    return probed


async def _read(client: ModbusClient, function: int, address: int, count: int) -> bytes:
    """Read as many registers as the meter allows in one request; empty where it refuses all."""
    refusal: DeviceError | None = None
    for words in sorted({count, *(fewer for fewer in (4, 2, 1) if fewer < count)}, reverse=True):
        if address + words > _ADDRESS_MAX + 1:
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
            _report(function, address, "no answer")
            return b""
    _report(function, address, str(refusal))
    return b""


def _report(function: int, address: int, what: str) -> None:
    click.echo(f"function {function}, address {address}: {what}", err=True)


def _rows(probed: ProbedDecodings) -> Iterator[dict[str, Any]]:
    """A row for each type and order, in the order of the widest reply."""
    by_offset = {
        name: {(decoding.type, decoding.order): decoding for decoding in values}
        for name, values in probed.values.items()
    }
    widest = max(by_offset.values(), key=len, default={})
    for key in widest:
        at_offset = {name: by_key[key] for name, by_key in by_offset.items() if key in by_key}
        marks = [
            f"{name}: {decoding.looks_like}"
            for name, decoding in at_offset.items()
            if decoding.looks_like
        ]
        yield {
            "function": probed.function,
            "type": key[0],
            "order": key[1],
            **{name: at_offset[name].value if name in at_offset else None for name in _OFFSETS},
            "looks_like": ", ".join(marks),
        }
