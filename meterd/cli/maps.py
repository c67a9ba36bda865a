"""`meterd maps`: the register maps that come with meterd, or the rows of one."""

from typing import Any

import click

from meterd.cli import output
from meterd.drivers.registers import RegisterMap, Row, load_map, shipped
from meterd.model.quantity import CATALOGUE

_LIST = ("name", "maker", "model", "confidence", "rows")
_ROWS = ("quantity", "function", "address", "type", "unit", "scale", "tier", "optional")
_QUANTITIES = ("name", "unit", "kind", "obis", "nut", "prometheus", "text")


@click.command(
    epilog="""\b
Examples:
  meterd maps
  meterd maps eastron_sdm630
  meterd maps ./my_meter.yaml --format json
  meterd maps --quantities
"""
)
@click.argument("name", required=False)
@click.option("--quantities", is_flag=True, help="The catalogue of quantities instead.")
@output.format_option
def command(name: str | None, quantities: bool, format_: str | None) -> None:
    """List the shipped register maps, or the rows of one (a name, or a file of your own)."""
    if quantities:
        rows = [{key: str(getattr(q, key)) for key in _QUANTITIES} for q in CATALOGUE.values()]
        output.show(_QUANTITIES, rows, format_, rows)
    elif name is None:
        rows = [_summary(load_map(each)) for each in shipped()]
        output.show(_LIST, rows, format_, rows)
    else:
        found = load_map(name)
        for line in (f"{found.maker} {found.model}", f"source: {found.source}", found.remark):
            click.echo(line, err=True)
        lines = [_line(row) for row in found.rows]
        output.show(_ROWS, lines, format_, {**_summary(found), "rows": lines})


def _summary(found: RegisterMap) -> dict[str, Any]:
    return {
        "name": found.name,
        "maker": found.maker,
        "model": found.model,
        "confidence": found.confidence,
        "rows": len(found.rows),
        "source": found.source,
    }


def _line(row: Row) -> dict[str, Any]:
    scale = (
        row.scale if row.scale_register is None else f"@{row.scale_register}*{row.scale_factor:g}"
    )
    return {
        "quantity": row.quantity,
        "function": row.function,
        "address": row.address,
        "type": row.type,
        "unit": row.unit,
        "scale": scale,
        "tier": row.tier,
        "optional": row.optional,
    }
