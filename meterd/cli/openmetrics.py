"""Exports as OpenMetrics text: family by family, since their samples have to stand together."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from meterd.model.family import Kind, Quantity
from meterd.model.quantity import describe

if TYPE_CHECKING:
    from meterd.store.asked import SeriesInfo
    from meterd.store.reader import Reader
    from meterd.store.tools.export import Wanted

_GAUGE = ("min", "mean", "max")
_COUNTER = ("increase",)


def samples(reader: "Reader", wanted: "Wanted") -> Iterator[str]:
    """Every sample that is neither null nor invalid."""
    from meterd.api.promapi import names
    from meterd.store.tools.export import of_series

    for metric, quantity, infos in _families(reader, wanted):
        kind, family = names.metric_type(quantity), metric.removesuffix("_total")
        yield f"# TYPE {family} {kind}\n"
        if unit := names.metric_unit(quantity):
            yield f"# UNIT {family} {unit}\n"
        for info in infos:
            found = of_series(reader, info.device, [info], wanted)
            points = ((line.time, line.value) for line in found if line.quality != "invalid")
            yield from _points(metric, info, points)
    yield "# EOF\n"


def buckets(reader: "Reader", wanted: "Wanted", resolution: str) -> Iterator[str]:
    """Of each bucket a gauge for what is known of it: _min, _mean and _max, or _increase."""
    from meterd.store.tools.coarse import of_series

    for metric, quantity, infos in _families(reader, wanted):
        for what in _COUNTER if quantity.kind is Kind.COUNTER else _GAUGE:
            family = f"{metric.removesuffix('_total')}_{what}"
            yield f"# TYPE {family} gauge\n"
            for info in infos:
                found = of_series(reader, info, wanted, resolution)
                points = ((bucket.time, getattr(bucket, what)) for bucket in found)
                yield from _points(family, info, points)
    yield "# EOF\n"


def _families(
    reader: "Reader", wanted: "Wanted"
) -> "Iterator[tuple[str, Quantity, list[SeriesInfo]]]":
    from meterd.api.promapi import names
    from meterd.store.tools.export import series

    families: dict[str, tuple[Quantity, list[SeriesInfo]]] = {}
    for info in series(reader, wanted):
        if quantity := describe(info.quantity, info.unit):
            metric = names.metric_name(quantity)
            families.setdefault(metric, (quantity, []))[1].append(info)
    for metric, (quantity, infos) in sorted(families.items(), key=lambda one: one[0]):
        yield metric, quantity, infos


def _points(
    metric: str, info: "SeriesInfo", found: Iterable[tuple[int, float | None]]
) -> Iterator[str]:
    quantity = describe(info.quantity, info.unit)
    phase = f',phase="{quantity.phase}"' if quantity and quantity.phase else ""
    name = f'{metric}{{device="{info.device}"{phase}}}'
    for time, value in found:
        if value is not None:
            yield f"{name} {value!r} {time // 1000}.{time % 1000:03}\n"
