"""What rooms want to find again after a restart, by name."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "memo",
        sa.Column("name", sa.String(190), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
