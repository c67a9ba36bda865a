"""The tables, as the newest migration leaves them; docs/sql.md shows them to people.

device   1 ─── n   series
journal  one row a commit: the polls that no block holds yet (blocks/commit_record.py)
block    one row a device and span of hours: sealed polls (blocks/block.py)
rollup   one row a series and UTC day: 96 quarter hours (blocks/rollup.py)
hour     one plain row a series and hour, for people with a SQL client
newest   the newest value of each series, written now and then, for the same people
dirty    days whose roll-ups do not say what their blocks hold
memo     name -> body
lease    which meterd writes a device's polls, where several share a store (cluster/leases.py)
sample   one plain row a sample: only with `store.rows`
correction 1 ─── n corrected   what people marked as invalid or entered, and what stood there before
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite's integer keys are its row numbers only where the type is exactly INTEGER.
Key = BigInteger().with_variant(Integer, "sqlite")
# MariaDB's BLOB ends at 64 kB.
Body = LargeBinary(2**24 - 1)

device = Table(
    "device",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(190), nullable=False),
    UniqueConstraint("name", name="device_name"),
)

# The unit is part of the key: a quantity of the user's own (`x.`) may change its unit, and
# then it goes on as another series. Two units in one series would be wrong values.
series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("device_id", Integer, ForeignKey("device.id"), nullable=False),
    Column("quantity", String(100), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("first", BigInteger),  # Unix ms of its first sample; `newest` has the last
    UniqueConstraint("device_id", "quantity", "unit", name="series_name"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("body", Body, nullable=False),
    Column("device_id", Integer),  # null: of several devices, as a lone meterd writes them
)

# id = t0 << 14 | device: appended at the right edge, and found without an index, since t0 is
# the full hour (Unix ms) in which the chunk begins.
block = Table(
    "block",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("device_id", Integer, nullable=False),
    Column("t0", BigInteger, nullable=False),
    Column("t1", BigInteger, nullable=False),  # Unix ms of the last poll
    Column("n", Integer, nullable=False),  # polls
    Column("body", Body, nullable=False),
)

# id = series << 20 | day. Times are Unix ms; the values are of good and doubtful samples alike.
rollup = Table(
    "rollup",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("series_id", Integer, nullable=False),
    Column("day", Integer, nullable=False),  # since 1970-01-01, UTC
    Column("n", Integer, nullable=False),
    Column("min", Double),
    Column("max", Double),
    Column("sum", Double),
    Column("increase", Double),
    Column("first_time", BigInteger),
    Column("first", Double),
    Column("last_time", BigInteger),
    Column("last", Double),
    Column("quarters", Body, nullable=False),
)

# id = hour since 1970 << 32 | series.
hour = Table(
    "hour",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
    Column("min", Double),
    Column("max", Double),
    Column("sum", Double),
    Column("increase", Double),
)

newest = Table(
    "newest",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("value", Double),
    Column("quality", SmallInteger, nullable=False),
    Column("reason", String(200)),
)

# id = day << 14 | device.
dirty = Table(
    "dirty",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
)

# What rooms want to find again after a restart, such as where their counters stood.
memo = Table(
    "memo",
    metadata,
    Column("name", String(190), primary_key=True),
    Column("body", Text, nullable=False),
)

# Times are Unix ms of the database's clock.
lease = Table(
    "lease",
    metadata,
    Column("device_id", Integer, primary_key=True, autoincrement=False),
    Column("holder", String(100), nullable=False),
    Column("token", BigInteger, nullable=False),  # one more with each new holder
    Column("until", BigInteger, nullable=False),
    Column("writes", BigInteger, nullable=False),  # counts, so that writes meet (cluster/leases.py)
)

# `time` is Unix ms UTC. There is no foreign key to series: it would cost a look-up a row, and
# only the writer makes either.
sample = Table(
    "sample",
    metadata,
    Column("time", BigInteger, primary_key=True, autoincrement=False),
    Column("series", Integer, primary_key=True, autoincrement=False),
    Column("value", Double),
    Column("quality", SmallInteger, nullable=False),
    Column("reason", String(200)),
    sqlite_with_rowid=False,
)

# An interval that somebody marked as invalid. Times are Unix ms; `done` is when the last of its
# samples was marked, `undone` when they became again what they were.
correction = Table(
    "correction",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("device", String(190), nullable=False),
    Column("quantity", String(100), nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),  # samples
    Column("why", String(500), nullable=False),
    Column("who", String(190), nullable=False),
    Column("made", BigInteger, nullable=False),
    Column("done", BigInteger),
    Column("undone", BigInteger),
    Column("undone_by", String(190)),
    Column("value", Double),  # entered in the place of them, in the series' unit
    Column("lost", Integer),  # samples that were deleted before they could be put back
)

# id = correction << 20 | part. The body is a block (blocks/block.py) of the samples as they were.
corrected = Table(
    "corrected",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),
    Column("correction_id", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("body", Body, nullable=False),
)

# Every table but `lease`, which is of no use to anybody but meterds that run. Parents first; what
# changes with each commit last.
TABLES: tuple[Table, ...] = (
    *(device, series, memo, block, rollup, hour),
    *(correction, corrected, dirty, newest, sample, journal),
)
# Those that grow with what is polled. The others have some thousand rows at most, and are looked at
# whenever a store is opened.
LARGE: tuple[Table, ...] = (journal, block, rollup, hour, corrected, sample)
SMALL: tuple[Table, ...] = tuple(table for table in TABLES if table not in LARGE)
