"""The numbers of qualities, and how long a reason may be: in blocks and in plain rows alike."""

from meterd.model.sample import Quality

REASON_LENGTH = 200  # characters

# What stands in the column `quality`, and in blocks: never renumber.
QUALITIES: dict[Quality, int] = {
    Quality.GOOD: 0,
    Quality.ESTIMATED: 1,
    Quality.SUSPECT: 2,
    Quality.STALE: 3,
    Quality.INVALID: 4,
}
GOOD = QUALITIES[Quality.GOOD]
INVALID = QUALITIES[Quality.INVALID]
