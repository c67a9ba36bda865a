"""Devices, their series, and one row a sample."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "device",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(190), nullable=False),
        sa.UniqueConstraint("name", name="device_name"),
    )
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("device_id", sa.Integer, sa.ForeignKey("device.id"), nullable=False),
        sa.Column("quantity", sa.String(100), nullable=False),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("first", sa.BigInteger),
        sa.Column("last", sa.BigInteger),
        sa.UniqueConstraint("device_id", "quantity", "unit", name="series_name"),
    )
    op.create_table(
        "sample",
        sa.Column("time", sa.BigInteger, primary_key=True),
        sa.Column("series", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Double),
        sa.Column("quality", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.String(200)),
        sqlite_with_rowid=False,
    )
