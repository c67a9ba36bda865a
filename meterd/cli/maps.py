"""`meterd maps`: the register maps of meterd and other packages, one's rows, or a map judged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from meterd.cli import output
from meterd.drivers.map_library import (
    MapHeader,
    head,
    load_map,
    map_text,
    packaged,
    packaged_head,
    shipped,
)
from meterd.drivers.packages import OWN_PACKAGE
from meterd.drivers.registers import BRIDGE, RegisterMap, Role, Row
from meterd.errors import ConfigError
from meterd.model.quantity import CATALOGUE

_LIST = ("name", "maker", "model", "confidence", "rows", "package")
_ROWS = ("quantity", "function", "address", "type", "unit", "scale", "tier", "optional")
_PLAN = ("when", "function", "first", "last", "registers", "rows")
_QUANTITIES = ("name", "unit", "kind", "obis", "nut", "prometheus", "text")
_EVERYWHERE = (
    "What meters measure may have a place behind its name: l1 l2 l3 l12 l23 l31 n, a circuit ch1 "
    "to ch999, an input of direct current dc1 to dc999, or both: active_power.ch13.l2. Energies "
    "and demands have tariffs, t1 to t99, before the place: active_energy.import.t5.l1."
)
_ROLES = {Role.SIGN: "sign", Role.MULTIPLY: "x", Role.DIVIDE: "/"}
# What a list says of a map that nobody has confirmed on a device.
_MARKS = {"low": "low (compare with the display)"}


@click.command(
    epilog="""\b
Examples:
  meterd maps
  meterd maps --find sdm
  meterd maps eastron_sdm630
  meterd maps ./my_meter.yaml --format json
  meterd maps --check ./my_meter.yaml
  meterd maps --quantities
"""
)
@click.argument("name", required=False)
@click.option("--find", metavar="WORD", help="Only maps with this in name, maker or model.")
@click.option(
    "--check",
    metavar="FILE",
    type=click.Path(),
    help="Judge a map of your own: mistakes, doubts, and how it would be read.",
)
@click.option("--quantities", is_flag=True, help="The catalogue of quantities instead.")
@output.format_option
def command(
    name: str | None, find: str | None, check: str | None, quantities: bool, format_: str | None
) -> None:
    """List the installed register maps, or the rows of one (a name, or a file of your own)."""
    chosen = [one for one in (name, find, check, quantities or None) if one is not None]
    if len(chosen) > 1:
        raise click.UsageError("give one of NAME, --find, --check and --quantities")
    if quantities:
        rows = [{key: str(getattr(q, key)) for key in _QUANTITIES} for q in CATALOGUE.values()]
        output.show(_QUANTITIES, rows, format_, rows, minor=("prometheus", "nut", "obis", "kind"))
        click.echo(_EVERYWHERE, err=True)
    elif check is not None:
        _check(check, format_)
    elif name is not None:
        _show(load_map(name), format_)
    else:
        _list(find or "", format_)


def _list(find: str, format_: str | None) -> None:
    """All words of `find` have to be in a map's name, maker or model, or in who brought it."""
    words = find.lower().split()
    heads = [one for one in _heads() if all(word in _searched(one) for word in words)]
    if find and not heads:
        click.echo(f"no map has {find!r} in its name, maker or model", err=True)
    document = [_summary(one, rows=one.rows) | {"package": one.package} for one in heads]
    shown = [row | {"confidence": _marked(row["confidence"])} for row in document]
    text = output.chosen(format_) == "table"
    output.show(
        _LIST,
        shown if text else document,
        format_,
        document,
        minor=("package", "rows", "confidence", "maker"),
    )


def _heads() -> Iterator[MapHeader]:
    """Of meterd's maps, then of other packages'; what is wrong with theirs is told on stderr."""
    yield from map(head, shipped())
    found = packaged()
    for mistake in found.warnings:
        click.echo(f"warning: {mistake}", err=True)
    for name in found.maps:
        try:
            yield packaged_head(name)
        except ConfigError as error:
            click.echo(f"warning: {error}", err=True)


def _searched(one: MapHeader) -> str:
    by = "" if one.package == OWN_PACKAGE else one.package
    return f"{one.name} {one.maker} {one.model} {by}".lower()


def _marked(confidence: str) -> str:
    return _MARKS.get(confidence, confidence)


def _show(found: RegisterMap, format_: str | None) -> None:
    warning = _MARKS.get(found.confidence, "")
    doubt = f"confidence: {warning}" if warning else ""
    title = f"{found.maker} {found.model}"
    for line in filter(None, (title, f"source: {found.source}", doubt, found.remark)):
        click.echo(line, err=True)
    lines = [_line(row) for row in found.rows]
    document = {**_summary(found, rows=len(lines)), "rows": lines}
    output.show(_ROWS, lines, format_, document, minor=("optional", "tier", "scale"))


def _check(file: str, format_: str | None) -> None:
    """Raises ConfigError with every mistake; else tells doubts on stderr, the plan on stdout."""
    from meterd.drivers import map_check, map_file

    ours = file in shipped() and not Path(file).exists()
    text = map_text(file)
    found = map_file.parse(text, Path(file).stem, file, own=not ours)
    places = map_file.places(text, file)
    if problems := map_check.problems(found, file, places):
        raise ConfigError(problems)
    doubts = map_check.map_warnings(found, file, places)
    plan = map_check.requests(found)
    for line in map(str, doubts):
        click.echo(line, err=True)
    rows = [
        {**{key: getattr(one, key) for key in _PLAN}, "rows": " ".join(one.rows)} for one in plan
    ]
    document = {
        **_summary(found, rows=len(found.rows)),
        "plan": [row | {"rows": list(one.rows)} for row, one in zip(rows, plan, strict=True)],
        "warnings": [str(doubt) for doubt in doubts],
    }
    output.show(_PLAN, rows, format_, document, minor=("registers", "last"))
    registers = sum(one.registers for one in plan)
    told = f"{len(found.rows)} rows in {len(plan)} reads of {registers} registers"
    click.echo(f"{file}: no mistakes, {len(doubts)} warnings, {told}", err=True)
    if (fewer := map_check.requests_with_bridge(found)) < len(plan):
        told = f"limits: {{bridge: {BRIDGE}}} makes {fewer} reads of them"
        click.echo(f"if the meter answers to registers between the rows, {told}", err=True)


def _summary(found: RegisterMap | MapHeader, *, rows: int) -> dict[str, Any]:
    return {
        "name": found.name,
        "maker": found.maker,
        "model": found.model,
        "confidence": found.confidence,
        "rows": rows,
        "source": found.source,
    }


def _bits(row: Row) -> str:
    """The bit that is the value, or the first and the last."""
    first = row.bit or 0
    return f"{first}" if row.bits == 1 else f"{first}..{first + row.bits - 1}"


def _short(scale: float | str) -> str:
    return scale if isinstance(scale, str) else f"{scale:g}"


def _registers(row: Row) -> int | str:
    """Its address; where it needs several registers that do not follow it, all of them."""
    if not row.terms:
        return row.address
    return " ".join(str(register) for _, register in sorted(row.places()))


def _scale(row: Row) -> float | str:
    """What the raw number is multiplied with."""
    scale: float | str = row.scale
    if row.scale_register is not None:
        scale = f"@{row.scale_register}*{row.scale_factor:g}"
    for term in row.terms:
        if term.role is not Role.SUM:
            scale = f"{_short(scale)} {_ROLES[term.role]} @{term.registers[0]}"
    return scale if not row.offset else f"{_short(scale)}{row.offset:+g}"


def _line(row: Row) -> dict[str, Any]:
    return {
        "quantity": row.quantity,
        "function": row.function,
        "address": _registers(row),
        "type": row.type if row.bit is None else f"{row.type}[{_bits(row)}]",
        "unit": row.unit,
        "scale": _scale(row),
        "tier": row.tier,
        "optional": row.optional,
    }
