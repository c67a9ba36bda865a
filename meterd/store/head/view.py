"""The head as readers see it, with the catalogue, and the newest row of each series in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from typing import Protocol

from meterd.model.sample import Quality
from meterd.store.blocks.quality_codes import QUALITIES, REASON_LENGTH
from meterd.store.db.statements import Row
from meterd.store.head.catalog import Catalog, Name
from meterd.store.head.head import SeriesBatch


class ReadableHead(Protocol):
    """What readers ask of a head: this process' own, or with those of its peers (cluster/)."""

    def batches(
        self, device: str, *, kept: bool = False, within: tuple[int, int] | None = None
    ) -> list[SeriesBatch]:
        """The batches of a device, of equal times the last one counts; times are Unix ms."""

    def names(self) -> set[Name]: ...

    def extents(self) -> dict[Name, tuple[int, int]]:
        """The first and the last time of each series."""

    def newest(self) -> dict[str, int]:
        """The last time of each device."""

    def devices(self) -> list[str]: ...

    def oldest(self, device: str) -> int | None:
        """The oldest time (Unix ms) of the device in memory; None where it has none."""


@dataclass(frozen=True, slots=True)
class HeadView:
    """What the writer has in memory, for readers."""

    head: ReadableHead
    catalog: Catalog

    def newest(self) -> dict[str, int]:
        """The last time (Unix ms) of each device, committed or not."""
        return last_times(self.head, self.catalog)


def newest_rows(batch: SeriesBatch, catalog: Catalog) -> Iterator[Row]:
    """The newest value of each series among polls that are in the WAL."""
    for column, time, value, doubt in batch.newest():
        quality = Quality.GOOD if doubt is None else doubt.quality
        if doubt is None and isnan(value):
            quality = Quality.INVALID
        yield {
            "series_id": catalog.series_id(batch.device, *column),
            "time": time,
            "value": None if isnan(value) else value,
            "quality": QUALITIES[quality],
            "reason": doubt.reason[:REASON_LENGTH] or None if doubt is not None else None,
        }


def last_times(head: ReadableHead, catalog: Catalog) -> dict[str, int]:
    """The last time (Unix ms) of each device, committed or not."""
    newest = head.newest()
    for entry in list(catalog.by_id.values()):
        if entry.last is not None:
            newest[entry.name[0]] = max(entry.last, newest.get(entry.name[0], entry.last))
    return newest
