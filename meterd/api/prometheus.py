"""The Prometheus exposition: the newest samples of devices that are up, and meterd's own health.

    meterd_active_power_watts{building="A",device="main",phase="l1"} 812.4

A series whose device is down or overdue is absent: Prometheus then sees it end.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from meterd.api.answer import ApiAnswer, ApiCall
from meterd.api.latest import newest
from meterd.api.promapi import names, prices, self_metrics
from meterd.api.promapi.prices import PriceSource
from meterd.api.promapi.self_metrics import Families
from meterd.api.query import NoQuery
from meterd.api.server_stats import ServerStats
from meterd.model.quantity import CATALOGUE, DEVICE_UP, describe
from meterd.poll.latest import DeviceState

if TYPE_CHECKING:
    from meterd.daemon.info import DeviceInfo
    from meterd.daemon.site import Site

MEDIA = (CONTENT_TYPE_PLAIN_0_0_4, openmetrics.CONTENT_TYPE_LATEST)

_UP = CATALOGUE[DEVICE_UP]


class _Collected(Collector):
    """Families that are complete."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _steps(families: Families, site: "Site", server_stats: ServerStats, now: int) -> Iterator[None]:
    """Reads the site, with pauses in which polls go on; `now` is Unix ms."""
    yield from self_metrics.steps(families, site, server_stats, now)
    for labels, price in PriceSource.of(site, now).latest():
        families.own(prices.METRIC, price, labels)
    for number, device in enumerate(site.devices()):
        state = site.latest.states.get(device.id)
        if state is not None:
            _samples(families, device, state, now)
        if number % self_metrics.AT_ONCE == self_metrics.AT_ONCE - 1:
            yield


def _samples(families: Families, device: "DeviceInfo", state: DeviceState, now: int) -> None:
    if state.last is None:
        return
    labels = names.device_labels(device.labels)
    seen = {DEVICE_UP}
    families.quantity(_UP, float(state.last.up), device.id, labels)
    for poll, stale in newest(device, state, now):
        layout = poll.layout
        for name, unit, value in zip(layout.quantities, layout.units, poll.values, strict=True):
            quantity = None if stale or name in seen else describe(name, unit)
            if quantity is not None and value is not None:
                families.quantity(quantity, value, device.id, labels)
        seen.update(layout.quantities)


def _wants_openmetrics(accept: str) -> bool:
    for offer in accept.split(","):
        media, *parameters = (part.strip() for part in offer.lower().split(";"))
        if media == "application/openmetrics-text":
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False


async def show(call: ApiCall, query: NoQuery) -> ApiAnswer:
    families = Families()
    for _ in _steps(families, call.site, call.server_stats, call.now):
        await asyncio.sleep(0)
    # The text of a thousand devices takes a fifth of a second.
    return await asyncio.to_thread(_written, families, _wants_openmetrics(call.accept))


def _written(families: Families, is_openmetrics: bool) -> ApiAnswer:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    if is_openmetrics:
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return ApiAnswer(text, openmetrics.CONTENT_TYPE_LATEST)
    return ApiAnswer(generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4)
