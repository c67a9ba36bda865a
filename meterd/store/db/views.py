"""Views for people with a SQL client, in the words of each database; each migration makes them.

v_series  v_newest  v_hourly  v_daily  v_sample: docs/sql.md shows how they are asked.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

_HOUR = 3_600_000
_DAY = 86_400_000

# Unix ms as the database's own time, in UTC.
_TIMES: Mapping[str, str] = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', {ms} / 1000.0, 'unixepoch')",
    "postgresql": "to_timestamp({ms} / 1000.0)",
    "mysql": "TIMESTAMPADD(MICROSECOND, {ms} * 1000, TIMESTAMP('1970-01-01'))",
}
_DAYS: Mapping[str, str] = {
    "sqlite": "strftime('%Y-%m-%d', {ms} / 1000, 'unixepoch')",
    "postgresql": "CAST(to_timestamp({ms} / 1000) AT TIME ZONE 'UTC' AS date)",
    "mysql": "DATE(TIMESTAMPADD(SECOND, {ms} DIV 1000, TIMESTAMP('1970-01-01')))",
}
_QUALITY = (
    "CASE {}.quality WHEN 0 THEN 'good' WHEN 1 THEN 'estimated' WHEN 2 THEN 'suspect' "
    "WHEN 3 THEN 'stale' ELSE 'invalid' END AS quality"
)
_NAMES = "d.name AS device, s.quantity AS quantity, s.unit AS unit"
NAMES = ("v_series", "v_newest", "v_hourly", "v_daily", "v_sample")


def drop(connection: Connection) -> None:
    """They would be in the way of a migration."""
    for name in NAMES:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def make(connection: Connection) -> None:
    """Creates the views; the tables exist already."""
    dialect = connection.dialect.name
    for name, (columns, tables) in _parts("mysql" if dialect == "mariadb" else dialect).items():
        parts = ("CREATE VIEW", name, "AS SELECT", columns, "FROM", tables)
        connection.exec_driver_sql(" ".join(parts))


def _parts(dialect: str) -> dict[str, tuple[str, str]]:
    """Columns and tables of each view."""

    def time(ms: str, name: str = "time") -> str:
        return f"{_TIMES[dialect].format(ms=ms)} AS {name}"

    # MariaDB calls these words its own unless they are quoted; the others know no backticks.
    q = "`" if dialect == "mysql" else '"'
    # A day in ms is beyond 32 bits, and MariaDB shifts without signs.
    whole = "SIGNED" if dialect == "mysql" else "BIGINT"
    number = f"CAST(h.id >> 32 AS {whole})"
    hour, day = f"{number} * {_HOUR}", f"(CAST(r.day AS {whole}) * {_DAY})"
    first, last, taken = f"s.{q}first{q}", f"n.{q}time{q}", f"p.{q}time{q}"
    aggregates = (
        "{0}.n AS n, {0}.{q}min{q} AS {q}min{q}, {0}.{q}sum{q} / NULLIF({0}.n, 0) AS mean, "
        "{0}.{q}max{q} AS {q}max{q}, {0}.increase AS increase"
    )
    return {
        "v_series": (
            f"{_NAMES}, s.kind AS kind, {time(first, 'first_time')}, {first} AS first_ms, "
            f"{time(last, 'last_time')}, {last} AS last_ms",
            "series s JOIN device d ON d.id = s.device_id LEFT JOIN newest n ON n.series_id = s.id",
        ),
        "v_newest": (
            f"{_NAMES}, {time(last)}, {last} AS time_ms, n.value AS value, "
            f"{_QUALITY.format('n')}, n.reason AS reason",
            f"newest n {_of('n.series_id')}",
        ),
        "v_hourly": (
            f"{_NAMES}, {time(hour)}, {hour} AS time_ms, {aggregates.format('h', q=q)}",
            f"{q}hour{q} h {_of('(h.id & 4294967295)')}",
        ),
        "v_daily": (
            f"{_NAMES}, {_DAYS[dialect].format(ms=day)} AS day, {day} AS time_ms, "
            f"{aggregates.format('r', q=q)}",
            f"{q}rollup{q} r {_of('r.series_id')}",
        ),
        "v_sample": (
            f"{_NAMES}, {time(taken)}, {taken} AS time_ms, p.value AS value, "
            f"{_QUALITY.format('p')}, p.reason AS reason",
            f"sample p {_of('p.series')}",
        ),
    }


def _of(series: str) -> str:
    return f"JOIN series s ON s.id = {series} JOIN device d ON d.id = s.device_id"
