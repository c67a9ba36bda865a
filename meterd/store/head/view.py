"""What readers see of polls in memory: with the catalogue, and the newest value of each series."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan

from meterd.model.sample import Quality
from meterd.store.blocks.quality_codes import QUALITIES, REASON_LENGTH
from meterd.store.db.statements import Row
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head, SeriesBatch


@dataclass(frozen=True, slots=True)
class HeadView:
    """What the writer knows that is not, or not only, in the database: for readers."""

    hot: Head
    catalog: Catalog

    def newest(self) -> dict[str, int]:
        """The last time (Unix ms) of each device, committed or not."""
        return last_times(self.hot, self.catalog)


def newest_rows(stretch: SeriesBatch, catalog: Catalog) -> Iterator[Row]:
    """The newest value of each series among polls that are in the journal."""
    for column, time, value, doubt in stretch.newest():
        quality = Quality.GOOD if doubt is None else doubt.quality
        if doubt is None and isnan(value):
            quality = Quality.INVALID
        yield {
            "series_id": catalog.one(stretch.device, *column),
            "time": time,
            "value": None if isnan(value) else value,
            "quality": QUALITIES[quality],
            "reason": doubt.reason[:REASON_LENGTH] or None if doubt is not None else None,
        }


def last_times(hot: Head, catalog: Catalog) -> dict[str, int]:
    """The last time (Unix ms) of each device, committed or not."""
    found = hot.newest()
    for known in list(catalog.by_id.values()):
        if known.last is not None:
            found[known.name[0]] = max(known.last, found.get(known.name[0], known.last))
    return found
