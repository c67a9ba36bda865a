"""Which meterd polls a device, and which journal rows are one device's alone."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "lease",
        sa.Column("device_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("holder", sa.String(100), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("writes", sa.BigInteger, nullable=False),
    )
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns("journal")]
    if "device_id" not in columns:
        op.add_column("journal", sa.Column("device_id", sa.Integer))
