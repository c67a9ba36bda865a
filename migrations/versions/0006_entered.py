"""What a person entered in the place of samples; and no infinity, which older ones took as values.

Blocks give nulls for such samples as they are read. What was made of them is made anew where the
samples are still there; the rows that people read get nulls.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_LARGEST = 1e300
_INVALID = 4
_REASON = "no number that can be measured"
_DEVICE_BITS = 14

_series = sa.table("series", sa.column("id"), sa.column("device_id"))
_rollup = sa.table(
    "rollup", *map(sa.column, ("series_id", "day", "min", "max", "sum", "first", "last"))
)
_hour = sa.table("hour", *map(sa.column, ("id", "min", "max", "sum", "increase")))
_dirty = sa.table("dirty", sa.column("id", sa.BigInteger))


def upgrade() -> None:
    op.add_column("correction", sa.Column("value", sa.Double))
    op.add_column("correction", sa.Column("lost", sa.Integer))
    connection = op.get_bind()
    _stain(connection)
    for name in ("min", "max", "sum", "increase"):
        column = _hour.c[name]
        connection.execute(sa.update(_hour).where(_is_wild(column)).values({name: None}))
    for name in ("newest", "sample"):
        table = sa.table(name, *map(sa.column, ("value", "quality", "reason")))
        told = {"value": None, "quality": _INVALID, "reason": _REASON}
        connection.execute(sa.update(table).where(_is_wild(table.c.value)).values(told))


def _is_wild(column: sa.ColumnElement[float]) -> sa.ColumnElement[bool]:
    return sa.or_(column > _LARGEST, column < -_LARGEST)


def _stain(connection: sa.Connection) -> None:
    """Days whose roll-ups are to be made anew."""
    wild = sa.or_(*(_is_wild(_rollup.c[name]) for name in ("min", "max", "sum", "first", "last")))
    asked = sa.select(_series.c.device_id, _rollup.c.day).distinct()
    found = connection.execute(asked.where(wild, _series.c.id == _rollup.c.series_id))
    keys = {day << _DEVICE_BITS | device for device, day in found}
    known = set(connection.scalars(sa.select(_dirty.c.id)))
    if keys - known:
        connection.execute(sa.insert(_dirty), [{"id": key} for key in sorted(keys - known)])
