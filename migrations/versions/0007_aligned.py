"""Roll-ups keep the samples at full half hours apart, in a format that older meterds do not read.

No table changes: the new number has an older meterd say that the store is newer, where it would
find damage. Roll-ups of before are read as they are; whole days of them answer PromQL, too.
"""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    pass
