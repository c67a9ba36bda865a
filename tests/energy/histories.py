"""Counter histories to sum up, and the zones whose days are no 24 hours."""

import random
from bisect import bisect_right
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from meterd.energy.quarter import QUARTER, Quarter

HOUR = 3_600_000
DAY = 24 * HOUR

# A zone, and a local day on which its clock does something odd.
ODD_DAYS = [
    ("Europe/Berlin", "2026-03-29", 92),
    ("Europe/Berlin", "2026-10-25", 100),
    ("Australia/Lord_Howe", "2026-04-05", 98),
    ("Australia/Lord_Howe", "2026-10-04", 94),
    ("America/Santiago", "2026-04-04", 100),
    ("America/Santiago", "2026-09-06", 92),
    ("America/Havana", "2026-11-01", 100),
    ("America/Sao_Paulo", "2018-11-04", 92),
    ("Asia/Kathmandu", "2026-06-01", 96),
    ("Australia/Eucla", "2026-06-01", 96),
    ("Pacific/Chatham", "2026-04-05", 100),
    ("Pacific/Apia", "2011-12-29", 96),
    ("Pacific/Apia", "2011-12-31", 96),
]
ZONES = sorted({zone for zone, _, _ in ODD_DAYS})


def at(zone: str, text: str, fold: int = 0) -> int:
    """A local time in Unix ms."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(local.timestamp() * 1000)


class History:
    """A counter that was read at odd times, with holes, for some days from `start` (Unix ms)."""

    def __init__(self, seed: int, start: int, days: int) -> None:
        chance = random.Random(seed)
        self.samples: list[tuple[int, int]] = []
        time, total = start, chance.randrange(10**9)
        while time < start + days * DAY:
            self.samples.append((time, total))
            time += chance.choice(
                (60_000, 300_000, 900_000, 1_800_001, chance.randrange(1, 2 * DAY))
            )
            total += chance.choice((0, 1, 250, 12_345, chance.randrange(10**7)))
        self.quarters = self._quarters()

    def total(self, ms: int) -> int:
        """The total at a moment between the first and the last sample, in thousandths."""
        place = bisect_right(self.samples, (ms, 10**18)) - 1
        before, low = self.samples[place]
        if before == ms:
            return low
        after, high = self.samples[place + 1]
        return low + (high - low) * (ms - before) // (after - before)

    def _quarters(self) -> list[Quarter]:
        first, last = self.samples[0][0], self.samples[-1][0]
        edges = range(-(-first // QUARTER) * QUARTER, last + 1, QUARTER)
        return [Quarter(a, self.total(b) - self.total(a), b % 7 == 0) for a, b in pairwise(edges)]
