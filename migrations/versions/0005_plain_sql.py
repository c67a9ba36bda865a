"""What people marked as invalid, and what stood there before. The views are made anew, too."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_body = sa.LargeBinary(2**24 - 1)


def upgrade() -> None:
    op.create_table(
        "correction",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("device", sa.String(190), nullable=False),
        sa.Column("quantity", sa.String(100), nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("why", sa.String(500), nullable=False),
        sa.Column("who", sa.String(190), nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger),
        sa.Column("undone", sa.BigInteger),
        sa.Column("undone_by", sa.String(190)),
    )
    op.create_table(
        "corrected",
        sa.Column("id", _key, primary_key=True, autoincrement=False),
        sa.Column("correction_id", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("body", _body, nullable=False),
    )
