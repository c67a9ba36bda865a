"""How meterd itself fares: how long polls take, how they fail, how late the event loop is."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from meterd.model.clock import Clock
from meterd.model.sample import Poll

# Upper bounds in seconds. A poll over TCP takes some ms, one at 1,200 baud several seconds.
POLL_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# Codes of faults that are counted one by one for each device; a driver has about a dozen.
MOST_CODES = 50
# Seconds between two looks at the loop's lag: often enough to meet a stall, rare enough to cost
# nothing.
LAG_EVERY = 0.25


class Histogram:
    """How many values lay at or under each bound, and their sum."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: upper bounds, ascending; larger values are counted in the last bucket."""
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> Iterator[tuple[float, int]]:
        """(upper bound, values at or under it); the last bound is infinite."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self._counts, strict=True):
            total += count
            yield bound, total


class DaemonMetrics:
    """A sink that measures the polls, and a watch over the event loop.

    `polls` by device, `faults` by (device, code of the fault), `busy` in seconds by link.
    """

    def __init__(self) -> None:
        self.polls: dict[str, Histogram] = {}
        self.faults: dict[tuple[str, str], int] = {}
        self.busy: dict[str, float] = {}
        self.lag = Histogram(LAG_BOUNDS)
        self._links: Mapping[str, str] = {}

    def place(self, links: Mapping[str, str]) -> None:
        """After a reload: sets the link of each device, and drops devices that are gone."""
        self._links = dict(links)
        self.polls = {name: found for name, found in self.polls.items() if name in links}
        self.faults = {key: n for key, n in self.faults.items() if key[0] in links}
        self.busy = {link: self.busy.get(link, 0.0) for link in links.values()}

    def rename(self, old: str, new: str) -> None:
        """A device goes on under another name."""
        self.polls = {new if name == old else name: one for name, one in self.polls.items()}
        self.faults = {
            (new if name == old else name, code): n for (name, code), n in self.faults.items()
        }

    def take(self, poll: Poll) -> None:
        """One poll, good or failed."""
        durations = self.polls.get(poll.device)
        if durations is None:
            durations = self.polls[poll.device] = Histogram(POLL_BOUNDS)
        durations.add(poll.took)
        link = self._links.get(poll.device)
        if link is not None:
            self.busy[link] = self.busy.get(link, 0.0) + poll.took
        if poll.fault is not None:
            self._count(poll.device, poll.fault.code)

    def _count(self, device: str, code: str) -> None:
        key = device, code
        if key not in self.faults and sum(one == device for one, _ in self.faults) >= MOST_CODES:
            # Each is a series: a driver may make codes of what its device says.
            key = device, "other"
        self.faults[key] = self.faults.get(key, 0) + 1

    async def watch(self, clock: Clock) -> None:
        """Measures how late the event loop wakes a task, until cancelled."""
        while True:
            due = clock.monotonic() + LAG_EVERY
            await clock.sleep(LAG_EVERY)
            self.lag.add(max(0.0, clock.monotonic() - due))
