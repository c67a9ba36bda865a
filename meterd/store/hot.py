"""The polls that no block holds yet, in memory as columns: written from here, and read here.

The event loop appends, the writer's thread commits and seals, readers copy. The lock is held
for as long as references or some kilobytes move, never while anything is written.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from meterd.model.sample import Poll
from meterd.store.stretch import Naming, Stretch

__all__ = ("Hot", "Naming", "Stretch")


class Hot:
    """Every poll since its device's last block."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._stretches: dict[str, list[Stretch]] = {}
        self._waiting = 0  # samples that no commit has confirmed

    def take(self, poll: Poll) -> None:
        """Never waits for the disk and never raises."""
        with self._guard:
            stretches = self._stretches.setdefault(poll.device, [])
            last = stretches[-1] if stretches else None
            number = last.number(poll.layout) if last is not None else None
            if last is None or number is None:
                last = Stretch.of(poll)
                number = last.number(poll.layout)
                stretches.append(last)
            last.add(poll, number or 0)
            self._waiting += len(poll.values)

    def adopt(self, journal: "Hot") -> None:
        """What was found in the journal comes before what was taken since."""
        with self._guard:
            for device, stretches in journal._stretches.items():
                for stretch in stretches:
                    stretch.kept = len(stretch.times)
                self._stretches[device] = [*stretches, *self._stretches.get(device, ())]

    @property
    def waiting(self) -> int:
        """Samples that no commit has confirmed."""
        return self._waiting

    def uncommitted(self, most: int) -> list[Stretch]:
        """Copies of the rows that are not in the journal, about `most` samples, oldest first."""
        found: list[Stretch] = []
        with self._guard:
            for stretch in self._all():
                rows = max(1, most // len(stretch.columns))
                end = min(len(stretch.times), stretch.kept + rows)
                if end > stretch.kept:
                    found.append(stretch.copy(stretch.kept, end))
                    most -= (end - stretch.kept) * len(stretch.columns)
                if most <= 0:
                    break
        return found

    def confirm(self, written: Sequence[Stretch]) -> int:
        """Those copies are in the journal now; returns their samples."""
        with self._guard:
            for copy in written:
                (copy.origin or copy).kept += len(copy.times)
            samples = sum(copy.samples for copy in written)
            self._waiting -= samples
            return samples

    def forget(self, moved: Sequence[Stretch]) -> int:
        """Those copies of uncommitted rows are elsewhere, or lost; returns their samples."""
        with self._guard:
            for copy in moved:
                origin = copy.origin or copy
                origin.remove(origin.kept, origin.kept + len(copy.times))
            samples = sum(copy.samples for copy in moved)
            self._waiting -= samples
            return samples

    def unconfirm(self) -> None:
        """The journal is gone: what was in it waits for a commit again."""
        with self._guard:
            for stretch in self._all():
                if stretch.kept:
                    self._waiting += stretch.copy(0, stretch.kept).samples
                    stretch.kept = 0

    def drop(self, device: str) -> int:
        """Another meterd has the device; returns the samples that no commit had confirmed."""
        with self._guard:
            gone = self._stretches.pop(device, [])
            samples = sum(one.copy(one.kept, len(one.times)).samples for one in gone)
            self._waiting -= samples
            return samples

    def sealed(self, device: str, before: int, seen: Iterable[tuple[Stretch, int]]) -> None:
        """What is older is in blocks now, of the first so many rows of these stretches."""
        with self._guard:
            for stretch, rows in seen:
                for start, end in reversed(stretch.older(before, rows)):
                    stretch.remove(start, end)
            # The newest stays even when it is empty: its layouts are known.
            if stretches := self._stretches.get(device):
                self._stretches[device] = [s for s in stretches[:-1] if s.times] + stretches[-1:]

    def stretches(self, device: str, *, kept: bool = False) -> list[Stretch]:
        """Copies of all rows of a device, or of those in the journal, in order of arrival."""
        with self._guard:
            found = self._stretches.get(device, ())
            return [one.copy(0, one.kept if kept else len(one.times)) for one in found]

    def tails(self) -> list[Stretch]:
        """Copies of the newest rows in the journal, as many as hold one of each layout."""
        with self._guard:
            return [one.tail() for one in self._all() if one.kept]

    def names(self) -> set[tuple[str, str, str]]:
        """Device, quantity and unit of each series here."""
        with self._guard:
            return {
                (one.device, *column) for one in self._all() if one.times for column in one.columns
            }

    def extents(self) -> dict[tuple[str, str, str], tuple[int, int]]:
        """The first and last time of each series here."""
        found: dict[tuple[str, str, str], tuple[int, int]] = {}
        with self._guard:
            for stretch in self._all():
                for kind, first, last in stretch.extents():
                    for place in kind.places:
                        name = stretch.device, *stretch.columns[place]
                        known = found.get(name, (first, last))
                        found[name] = min(known[0], first), max(known[1], last)
        return found

    def devices(self) -> list[str]:
        with self._guard:
            return list(self._stretches)

    def oldest(self, device: str) -> int | None:
        """The time (Unix ms) of the device's oldest poll here."""
        with self._guard:
            times = [min(one.times) for one in self._stretches.get(device, ()) if one.times]
        return min(times, default=None)

    def newest(self) -> dict[str, int]:
        """The time (Unix ms) of each device's newest poll here."""
        with self._guard:
            found = {
                name: [max(one.times) for one in stretches if one.times]
                for name, stretches in self._stretches.items()
            }
        return {name: max(times) for name, times in found.items() if times}

    def _all(self) -> Iterator[Stretch]:
        return chain.from_iterable(self._stretches.values())
