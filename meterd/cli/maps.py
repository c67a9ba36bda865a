"""`meterd maps`: lists the maps of meterd and other packages, or a map's rows; checks a file."""

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

_LIST_COLUMNS = ("name", "maker", "model", "confidence", "rows", "package")
_ROW_COLUMNS = ("quantity", "function", "address", "type", "unit", "scale", "tier", "optional")
_PLAN_COLUMNS = ("when", "function", "first", "last", "registers", "rows")
_QUANTITY_COLUMNS = ("name", "unit", "kind", "obis", "nut", "prometheus", "text")
_SUFFIXES_HINT = (
    "What meters measure may have a place behind its name: l1 l2 l3 l12 l23 l31 n, a circuit ch1 "
    "to ch999, an input of direct current dc1 to dc999, or both: active_power.ch13.l2. Energies "
    "and demands have tariffs, t1 to t99, before the place: active_energy.import.t5.l1."
)
_ROLES = {Role.SIGN: "sign", Role.MULTIPLY: "x", Role.DIVIDE: "/"}
# How tables show the confidence of a map that is not confirmed on a device.
_CONFIDENCE_TEXTS = {"low": "low (compare with the display)"}


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
    modes = [mode for mode in (name, find, check, quantities or None) if mode is not None]
    if len(modes) > 1:
        raise click.UsageError("give one of NAME, --find, --check and --quantities")
    if quantities:
        rows = [
            {key: str(getattr(quantity, key)) for key in _QUANTITY_COLUMNS}
            for quantity in CATALOGUE.values()
        ]
        output.show(
            _QUANTITY_COLUMNS, rows, format_, rows, minor=("prometheus", "nut", "obis", "kind")
        )
        click.echo(_SUFFIXES_HINT, err=True)
    elif check is not None:
        _check(check, format_)
    elif name is not None:
        _show(load_map(name), format_)
    else:
        _list(find or "", format_)


def _list(find: str, format_: str | None) -> None:
    """List the maps whose name, maker, model or package contain all words of `find`."""
    words = find.lower().split()
    headers = [
        header for header in _headers() if all(word in _search_text(header) for word in words)
    ]
    if find and not headers:
        click.echo(f"no map has {find!r} in its name, maker or model", err=True)
    document = [
        _summary(header, rows=header.rows) | {"package": header.package} for header in headers
    ]
    shown = [row | {"confidence": _confidence_text(row["confidence"])} for row in document]
    is_table = output.effective_format(format_) == "table"
    output.show(
        _LIST_COLUMNS,
        shown if is_table else document,
        format_,
        document,
        minor=("package", "rows", "confidence", "maker"),
    )


def _headers() -> Iterator[MapHeader]:
    """meterd's maps, then those of other packages, whose errors are printed as warnings."""
    yield from map(head, shipped())
    packages = packaged()
    for warning in packages.warnings:
        click.echo(f"warning: {warning}", err=True)
    for name in packages.maps:
        try:
            yield packaged_head(name)
        except ConfigError as error:
            click.echo(f"warning: {error}", err=True)


def _search_text(header: MapHeader) -> str:
    package = "" if header.package == OWN_PACKAGE else header.package
    return f"{header.name} {header.maker} {header.model} {package}".lower()


def _confidence_text(confidence: str) -> str:
    return _CONFIDENCE_TEXTS.get(confidence, confidence)


def _show(register_map: RegisterMap, format_: str | None) -> None:
    warning = _CONFIDENCE_TEXTS.get(register_map.confidence, "")
    confidence = f"confidence: {warning}" if warning else ""
    title = f"{register_map.maker} {register_map.model}"
    for line in filter(
        None, (title, f"source: {register_map.source}", confidence, register_map.remark)
    ):
        click.echo(line, err=True)
    lines = [_row_line(row) for row in register_map.rows]
    document = {**_summary(register_map, rows=len(lines)), "rows": lines}
    output.show(_ROW_COLUMNS, lines, format_, document, minor=("optional", "tier", "scale"))


def _check(file: str, format_: str | None) -> None:
    """Print warnings on stderr, the plan on stdout. Raises ConfigError with all problems."""
    from meterd.drivers import map_check, map_file

    is_shipped = file in shipped() and not Path(file).exists()
    text = map_text(file)
    register_map = map_file.parse(text, Path(file).stem, file, own=not is_shipped)
    positions = map_file.places(text, file)
    if problems := map_check.problems(register_map, file, positions):
        raise ConfigError(problems)
    warnings = map_check.map_warnings(register_map, file, positions)
    plan = map_check.requests(register_map)
    for line in map(str, warnings):
        click.echo(line, err=True)
    rows = [
        {**{key: getattr(request, key) for key in _PLAN_COLUMNS}, "rows": " ".join(request.rows)}
        for request in plan
    ]
    document = {
        **_summary(register_map, rows=len(register_map.rows)),
        "plan": [
            row | {"rows": list(request.rows)} for row, request in zip(rows, plan, strict=True)
        ],
        "warnings": [str(warning) for warning in warnings],
    }
    output.show(_PLAN_COLUMNS, rows, format_, document, minor=("registers", "last"))
    registers = sum(request.registers for request in plan)
    summary = f"{len(register_map.rows)} rows in {len(plan)} reads of {registers} registers"
    click.echo(f"{file}: no mistakes, {len(warnings)} warnings, {summary}", err=True)
    if (fewer := map_check.requests_with_bridge(register_map)) < len(plan):
        summary = f"limits: {{bridge: {BRIDGE}}} makes {fewer} reads of them"
        click.echo(f"if the meter answers to registers between the rows, {summary}", err=True)


def _summary(register_map: RegisterMap | MapHeader, *, rows: int) -> dict[str, Any]:
    return {
        "name": register_map.name,
        "maker": register_map.maker,
        "model": register_map.model,
        "confidence": register_map.confidence,
        "rows": rows,
        "source": register_map.source,
    }


def _bits_text(row: Row) -> str:
    """The bit of the value, or its first and last bit."""
    first = row.bit or 0
    return f"{first}" if row.bits == 1 else f"{first}..{first + row.bits - 1}"


def _number_text(scale: float | str) -> str:
    return scale if isinstance(scale, str) else f"{scale:g}"


def _address_text(row: Row) -> int | str:
    """The address of the row; where its terms are registers elsewhere, the addresses of all."""
    if not row.terms:
        return row.address
    return " ".join(str(register) for _, register in sorted(row.places()))


def _scale_text(row: Row) -> float | str:
    """The factor of the raw number, with the offset and the terms' registers."""
    scale: float | str = row.scale
    if row.scale_register is not None:
        scale = f"@{row.scale_register}*{row.scale_factor:g}"
    for term in row.terms:
        if term.role is not Role.SUM:
            scale = f"{_number_text(scale)} {_ROLES[term.role]} @{term.registers[0]}"
    return scale if not row.offset else f"{_number_text(scale)}{row.offset:+g}"


def _row_line(row: Row) -> dict[str, Any]:
    return {
        "quantity": row.quantity,
        "function": row.function,
        "address": _address_text(row),
        "type": row.type if row.bit is None else f"{row.type}[{_bits_text(row)}]",
        "unit": row.unit,
        "scale": _scale_text(row),
        "tier": row.tier,
        "optional": row.optional,
    }
