"""What a person entered in the place of samples, and how many could not be put back."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("correction", sa.Column("value", sa.Double))
    op.add_column("correction", sa.Column("lost", sa.Integer))
