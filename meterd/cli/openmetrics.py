"""OpenMetrics text of an export, grouped by metric family as the format requires.

Names and labels are those of /metrics and PromQL.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from meterd.model.family import Kind, Quantity

if TYPE_CHECKING:
    from meterd.store.query.range_query import SeriesInfo
    from meterd.store.reader import Reader
    from meterd.store.tools.export import Wanted

_GAUGE_BUCKETS = ("min", "mean", "max")
_COUNTER_BUCKETS = ("increase",)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}

Labels = Mapping[str, Mapping[str, str]]
"""The configured labels of each device."""


class FamilySeries(NamedTuple):
    """A series of a family; `labels` is their text with braces."""

    info: "SeriesInfo"
    labels: str


def samples(reader: "Reader", wanted: "Wanted", labels: Labels) -> Iterator[str]:
    """The text of all samples that are neither null nor invalid."""
    from meterd.api.promapi import names
    from meterd.store.tools.export import of_series

    for metric, quantity, members in _families(reader, wanted, labels):
        kind, family = names.metric_type(quantity), metric.removesuffix("_total")
        yield f"# TYPE {family} {kind}\n"
        if unit := names.metric_unit(quantity):
            yield f"# UNIT {family} {unit}\n"
        for info, label_text in members:
            lines = of_series(reader, info.device, [info], wanted)
            points = ((line.time, line.value) for line in lines if line.quality != "invalid")
            yield from _points(metric + label_text, points)
    yield "# EOF\n"


def buckets(reader: "Reader", wanted: "Wanted", resolution: str, labels: Labels) -> Iterator[str]:
    """The text of roll-ups: a gauge each for _min, _mean and _max, of counters for _increase."""
    from meterd.store.tools.downsampled_export import of_series

    for metric, quantity, members in _families(reader, wanted, labels):
        for suffix in _COUNTER_BUCKETS if quantity.kind is Kind.COUNTER else _GAUGE_BUCKETS:
            family = f"{metric.removesuffix('_total')}_{suffix}"
            yield f"# TYPE {family} gauge\n"
            for info, label_text in members:
                rows = of_series(reader, info, wanted, resolution)
                points = ((bucket.time, getattr(bucket, suffix)) for bucket in rows)
                yield from _points(family + label_text, points)
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
        device_labels = names.device_labels(labels.get(info.device, {}))
        label_text = _label_text(names.series_labels(quantity, info.device, device_labels))
        # Labels are unique in a family, here as in PromQL: the first series has them.
        families.setdefault(metric, (quantity, {}))[1].setdefault(
            label_text, FamilySeries(info, label_text)
        )
    for metric, (quantity, members) in sorted(families.items(), key=lambda item: item[0]):
        yield metric, quantity, list(members.values())


def _label_text(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escape(value)}"' for name, value in sorted(labels.items()))
    return f"{{{','.join(pairs)}}}"


def _escape(value: str) -> str:
    return re.sub(r'[\\"\n]', lambda match: _ESCAPES[match[0]], value)


def _points(name: str, points: Iterable[tuple[int, float | None]]) -> Iterator[str]:
    for time, value in points:
        if value is not None:
            yield f"{name} {value!r} {time // 1000}.{time % 1000:03}\n"
