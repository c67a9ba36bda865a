"""Exports as OpenMetrics text: family by family, since their samples have to stand together.

Names and labels are those of /metrics and PromQL: what is exported is found there again.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from meterd.model.family import Kind, Quantity

if TYPE_CHECKING:
    from meterd.store.query.range_query import SeriesInfo
    from meterd.store.reader import Reader
    from meterd.store.tools.export import Wanted

_GAUGE = ("min", "mean", "max")
_COUNTER = ("increase",)
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}

Labels = Mapping[str, Mapping[str, str]]
"""A device -> its labels, as they are configured."""


class FamilySeries(NamedTuple):
    """A series of a family: its labels as they are written, braces and all."""

    info: "SeriesInfo"
    labels: str


def samples(reader: "Reader", wanted: "Wanted", labels: Labels) -> Iterator[str]:
    """Every sample that is neither null nor invalid."""
    from meterd.api.promapi import names
    from meterd.store.tools.export import of_series

    for metric, quantity, members in _families(reader, wanted, labels):
        kind, family = names.metric_type(quantity), metric.removesuffix("_total")
        yield f"# TYPE {family} {kind}\n"
        if unit := names.metric_unit(quantity):
            yield f"# UNIT {family} {unit}\n"
        for info, written in members:
            found = of_series(reader, info.device, [info], wanted)
            points = ((line.time, line.value) for line in found if line.quality != "invalid")
            yield from _points(metric + written, points)
    yield "# EOF\n"


def buckets(reader: "Reader", wanted: "Wanted", resolution: str, labels: Labels) -> Iterator[str]:
    """Of each bucket a gauge for what is known of it: _min, _mean and _max, or _increase."""
    from meterd.store.tools.downsampled_export import of_series

    for metric, quantity, members in _families(reader, wanted, labels):
        for what in _COUNTER if quantity.kind is Kind.COUNTER else _GAUGE:
            family = f"{metric.removesuffix('_total')}_{what}"
            yield f"# TYPE {family} gauge\n"
            for info, written in members:
                found = of_series(reader, info, wanted, resolution)
                points = ((bucket.time, getattr(bucket, what)) for bucket in found)
                yield from _points(family + written, points)
    yield "# EOF\n"


def _families(
    reader: "Reader", wanted: "Wanted", labels: Labels
) -> Iterator[tuple[str, Quantity, list[FamilySeries]]]:
    from meterd.api.promapi import names
    from meterd.store.tools.export import series

    families: dict[str, tuple[Quantity, dict[str, FamilySeries]]] = {}
    for info in series(reader, wanted):
        quantity = names.stored_quantity(info.quantity, info.unit, info.kind)
        metric = names.metric_name(quantity)
        own = names.device_labels(labels.get(info.device, {}))
        written = _written(names.series_labels(quantity, info.device, own))
        # No two series may have the same labels, here as in PromQL.
        families.setdefault(metric, (quantity, {}))[1].setdefault(
            written, FamilySeries(info, written)
        )
    for metric, (quantity, found) in sorted(families.items(), key=lambda one: one[0]):
        yield metric, quantity, list(found.values())


def _written(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return re.sub(r'[\\"\n]', lambda found: _ESCAPED[found[0]], value)


def _points(name: str, found: Iterable[tuple[int, float | None]]) -> Iterator[str]:
    for time, value in found:
        if value is not None:
            yield f"{name} {value!r} {time // 1000}.{time % 1000:03}\n"
