"""The tables, as the newest migration leaves them.

device   1 ─── n   series   1 ─── n   sample (time, series) -> value, quality, reason
memo     name -> body
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from meterd.model.sample import Quality

metadata = MetaData()

device = Table(
    "device",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(190), nullable=False),
    UniqueConstraint("name", name="device_name"),
)

# The unit is part of the key: a quantity of the user's own (`x.`) may change its unit, and
# then it goes on as another series. Two units in one series would be wrong values.
series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device_id", Integer, ForeignKey("device.id"), nullable=False),
    Column("quantity", String(100), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    # See edges.py: these trail the samples by up to a minute.
    Column("first", BigInteger),
    Column("last", BigInteger),
    UniqueConstraint("device_id", "quantity", "unit", name="series_name"),
)

# Time first: rows are appended at the right edge. `time` is Unix ms UTC. There is no foreign
# key to series: it would cost a look-up a row, and only the writer makes either.
sample = Table(
    "sample",
    metadata,
    Column("time", BigInteger, primary_key=True),
    Column("series", Integer, primary_key=True, autoincrement=False),
    Column("value", Double),
    Column("quality", SmallInteger, nullable=False),
    Column("reason", String(200)),
    sqlite_with_rowid=False,
)

# What rooms want to find again after a restart, such as where their counters stood.
memo = Table(
    "memo",
    metadata,
    Column("name", String(190), primary_key=True),
    Column("body", Text, nullable=False),
)

REASON_LENGTH = 200

# What stands in `sample.quality`: never renumber.
QUALITIES: dict[Quality, int] = {
    Quality.GOOD: 0,
    Quality.ESTIMATED: 1,
    Quality.SUSPECT: 2,
    Quality.STALE: 3,
    Quality.INVALID: 4,
}
GOOD = QUALITIES[Quality.GOOD]
INVALID = QUALITIES[Quality.INVALID]
