"""Journal, blocks and roll-ups; `sample` stays for those who want plain rows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_body = sa.LargeBinary(2**24 - 1)


def upgrade() -> None:
    op.create_table(
        "journal",
        sa.Column("id", _key, primary_key=True, autoincrement=False),
        sa.Column("body", _body, nullable=False),
    )
    op.create_table(
        "block",
        sa.Column("id", _key, primary_key=True, autoincrement=False),
        sa.Column("device_id", sa.Integer, nullable=False),
        sa.Column("t0", sa.BigInteger, nullable=False),
        sa.Column("t1", sa.BigInteger, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("body", _body, nullable=False),
    )
    op.create_table(
        "rollup",
        sa.Column("id", _key, primary_key=True, autoincrement=False),
        sa.Column("series_id", sa.Integer, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("min", sa.Double),
        sa.Column("max", sa.Double),
        sa.Column("sum", sa.Double),
        sa.Column("increase", sa.Double),
        sa.Column("first_time", sa.BigInteger),
        sa.Column("first", sa.Double),
        sa.Column("last_time", sa.BigInteger),
        sa.Column("last", sa.Double),
        sa.Column("quarters", _body, nullable=False),
    )
    op.create_table(
        "hour",
        sa.Column("id", _key, primary_key=True, autoincrement=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("min", sa.Double),
        sa.Column("max", sa.Double),
        sa.Column("sum", sa.Double),
        sa.Column("increase", sa.Double),
    )
    op.create_table(
        "newest",
        sa.Column("series_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("quality", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.String(200)),
    )
    op.create_table(
        "dirty",
        sa.Column("id", _key, primary_key=True, autoincrement=False),
    )
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns("series")]
    if "last" in columns:
        with op.batch_alter_table("series") as series:
            series.drop_column("last")
