"""The Prometheus exposition: the newest samples of devices that are up, and meterd's own health.

    meterd_active_power_watts{building="A",device="main",phase="l1"} 812.4

A series whose device is down or overdue is absent: Prometheus then sees it end.
"""

import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from meterd import __version__
from meterd.api.answer import Answer, Call
from meterd.api.latest import newest
from meterd.api.query import NoQuery
from meterd.api.site import DeviceInfo, Site
from meterd.model.alert import AlertState
from meterd.model.quantity import CATALOGUE, DEVICE_UP, INFO, Kind, Quantity, describe
from meterd.poll.latest import DeviceState

MEDIA = (CONTENT_TYPE_PLAIN_0_0_4, openmetrics.CONTENT_TYPE_LATEST)

Labels = Mapping[str, str]

_OWN_LABELS = ("device", "phase", "quantity", "quantile", "le")
_SUFFIX = re.compile(r"_(total|created|info|bucket|count|sum|gcount|gsum)$")
_UP = CATALOGUE[DEVICE_UP]

# Families of meterd itself: name, type, help. Counters are named without their _total.
_OWN = {
    "meterd_build": ("info", "The version of meterd and of Python"),
    "meterd_start_time_seconds": ("gauge", "When meterd was started, Unix time"),
    "meterd_uptime_seconds": ("gauge", "How long meterd has been running"),
    "meterd_device": ("info", "What a device is: driver, model, and what it says of itself"),
    "meterd_polls": ("counter", "Polls of a device"),
    "meterd_poll_failures": ("counter", "Polls that ended without an answer"),
    "meterd_poll_duration_seconds": ("summary", "Time that good polls took, the last hundred"),
    "meterd_link_events": ("counter", "What happened on a link, by kind of event"),
    "meterd_alerts": ("gauge", "Alerts by state and severity"),
    "meterd_store_writable": ("gauge", "The store takes samples"),
    "meterd_store_queued_samples": ("gauge", "Samples that wait for the next commit"),
    "meterd_store_committed_samples": ("counter", "Samples that are safely stored"),
    "meterd_store_dropped_samples": ("counter", "Samples that were lost on the way to the store"),
    "meterd_store_last_commit_timestamp_seconds": ("gauge", "The last commit, Unix time"),
}


def _base(name: str) -> str:
    return _SUFFIX.sub("", name)


_TAKEN = frozenset(_base(quantity.prometheus) for quantity in CATALOGUE.values()) | frozenset(_OWN)


def family_name(quantity: Quantity) -> str:
    """The quantity's metric; a user's own gets out of the way of names that have a meaning."""
    if not quantity.name.startswith("x."):
        return quantity.prometheus
    name = re.sub(r"[^a-zA-Z0-9_]", "_", quantity.prometheus)
    if _base(name) in _TAKEN or _SUFFIX.search(name):
        return f"meterd_x_{name.removeprefix('meterd_')}_value"
    return name


def label_names(labels: Labels) -> dict[str, str]:
    """A device's labels under names that Prometheus takes and that are not meterd's."""
    named: dict[str, str] = {}
    for name, value in sorted(labels.items()):
        plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
        if plain in _OWN_LABELS or plain in named or not re.match(r"[a-zA-Z]", plain):
            plain = f"label_{plain}"
        while plain in named:
            plain += "_"
        named[plain] = value
    return named


class Families:
    """Metric families in the order in which they first got a sample."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def own(self, name: str, value: float, labels: Labels | None = None) -> None:
        """One sample of a family of meterd's own."""
        kind, text = _OWN[name]
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        sample = Sample(name + suffix, dict(labels or {}), value)
        self._metric(name, text, kind).samples.append(sample)

    def quantity(self, quantity: Quantity, value: float, labels: Labels) -> None:
        name = family_name(quantity)
        kind = "counter" if quantity.kind is Kind.COUNTER else "gauge"
        family = name.removesuffix("_total") if kind == "counter" else name
        named = dict(labels)
        if quantity.phase:
            named["phase"] = quantity.phase
        if quantity.name.startswith("x."):
            # x.a.b and x.a_b share a family: only this keeps their series apart.
            named["quantity"] = quantity.name
        text = quantity.text.split(",")[0] if quantity.phase else quantity.text
        self._metric(family, text, kind).samples.append(Sample(name, named, value))

    def _metric(self, name: str, text: str, kind: str) -> Metric:
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = Metric(name, text, kind)
        return metric

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics.values())


class SiteCollector(Collector):
    """Reads the site at the moment of a scrape; `now` is Unix ms."""

    def __init__(self, site: Site, now: int) -> None:
        self._site = site
        self._now = now

    def collect(self) -> Iterable[Metric]:
        families = Families()
        _meterd(families, self._site, self._now)
        for device in self._site.devices():
            state = self._site.latest.states.get(device.id)
            if state is not None:
                labels = {**label_names(device.labels), "device": device.id}
                _health(families, device, state, labels)
                _samples(families, device, state, labels, self._now)
        return families


def _samples(
    families: Families, device: DeviceInfo, state: DeviceState, labels: Labels, now: int
) -> None:
    if state.last is None:
        return
    seen = {DEVICE_UP}
    families.quantity(_UP, float(state.last.up), labels)
    for poll, stale in newest(device, state, now):
        layout = poll.layout
        for name, unit, value in zip(layout.quantities, layout.units, poll.values, strict=True):
            quantity = None if stale or name in seen else describe(name, unit)
            if quantity is not None and value is not None:
                families.quantity(quantity, value, labels)
        seen.update(layout.quantities)


def _health(families: Families, device: DeviceInfo, state: DeviceState, labels: Labels) -> None:
    texts = {name.removeprefix("info."): state.info[name] for name in INFO if name in state.info}
    told = {name: text for name, text in texts.items() if name != "model"}
    model = device.model or texts.get("model", "")
    families.own("meterd_device", 1, {**labels, **told, "driver": device.driver, "model": model})
    families.own("meterd_polls", state.polls, labels)
    families.own("meterd_poll_failures", state.failures, labels)
    for quantile in (0.5, 0.99):
        if (seconds := state.latency(quantile)) is not None:
            named = {**labels, "quantile": str(quantile)}
            families.own("meterd_poll_duration_seconds", seconds, named)


def _meterd(families: Families, site: Site, now: int) -> None:
    versions = {"version": __version__, "python": platform.python_version()}
    families.own("meterd_build", 1, versions)
    families.own("meterd_start_time_seconds", site.started / 1000)
    families.own("meterd_uptime_seconds", max(0, now - site.started) / 1000)
    for url, events in site.link_counters().items():
        for event, count in events.items():
            families.own("meterd_link_events", count, {"link": url, "event": event})
    _alerts(families, site)
    store = site.store_status()
    families.own("meterd_store_writable", float(store.writable))
    families.own("meterd_store_queued_samples", store.queued)
    families.own("meterd_store_committed_samples", store.committed)
    families.own("meterd_store_dropped_samples", store.dropped)
    if store.last_commit:
        families.own("meterd_store_last_commit_timestamp_seconds", store.last_commit)


def _alerts(families: Families, site: Site) -> None:
    counts = Counter((alert.state, alert.severity) for alert in site.alerts())
    for state in (AlertState.PENDING, AlertState.FIRING):
        # Always there, so that "none" can be told from "not scraped".
        counts.setdefault((state, "warning"), 0)
    for (state, severity), count in sorted(counts.items()):
        families.own("meterd_alerts", count, {"state": state, "severity": severity})


def _wants_openmetrics(accept: str) -> bool:
    for offer in accept.split(","):
        media, *parameters = (part.strip() for part in offer.lower().split(";"))
        if media == "application/openmetrics-text":
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False


async def show(call: Call, query: NoQuery) -> Answer:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SiteCollector(call.site, call.now))
    if _wants_openmetrics(call.accept):
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return Answer(text, openmetrics.CONTENT_TYPE_LATEST)
    return Answer(generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4)
