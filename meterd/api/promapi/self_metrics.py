"""meterd's own health as metric families: polls, links, the loop, the store, alerts."""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from meterd import __version__
from meterd.api.promapi import names
from meterd.api.promapi.names import OWN, Labels, Meaning
from meterd.api.server_stats import ServerStats
from meterd.daemon.metrics import DaemonMetrics, Histogram
from meterd.model.alert import AlertState
from meterd.model.quantity import INFO, Quantity
from meterd.poll.latest import DeviceState

if TYPE_CHECKING:
    from meterd.daemon.info import DeviceInfo
    from meterd.daemon.site import Site

# Devices that are looked at before the event loop gets a turn: about 3 ms.
AT_ONCE = 20


class Families:
    """Metric families in the order in which they first got a sample."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def own(self, name: str, value: float, labels: Labels | None = None) -> None:
        """One sample of a family of meterd's own."""
        kind, text = OWN[name]
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        sample = Sample(name + suffix, dict(labels or {}), value)
        self._metric(name, text, kind, _own_unit(name)).samples.append(sample)

    def histogram(self, name: str, histogram: Histogram, labels: Labels | None = None) -> None:
        """All samples of a histogram of meterd's own."""
        kind, text = OWN[name]
        named = dict(labels or {})
        samples = self._metric(name, text, kind, _own_unit(name)).samples
        for bound, count in histogram.buckets():
            le = {**named, "le": str(floatToGoString(bound))}  # type: ignore[no-untyped-call]
            samples.append(Sample(f"{name}_bucket", le, count))
        samples.append(Sample(f"{name}_count", named, histogram.count))
        samples.append(Sample(f"{name}_sum", named, histogram.sum))

    def quantity(self, quantity: Quantity, value: float, device: str, labels: Labels) -> None:
        """One sample of a device; `labels` as names.device_labels() gives them."""
        name, kind, text, unit = names.meaning(quantity)
        family = name.removesuffix("_total") if kind == "counter" else name
        named = names.series_labels(quantity, device, labels)
        self._metric(family, text, kind, unit).samples.append(Sample(name, named, value))

    def _metric(self, name: str, text: str, kind: str, unit: str) -> Metric:
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = Metric(name, text, kind, unit)
        return metric

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics.values())


def _own_unit(name: str) -> str:
    return "seconds" if name.endswith("_seconds") else ""


def meaning(sample: str) -> Meaning:
    """What a sample's name belongs to: `meterd_polls_total` to the counter of polls."""
    family = sample if sample in OWN else names.without_suffix(sample)
    kind, text = OWN[family]
    # Counters and infos are known by their samples' name, histograms by their family's.
    shown = family if kind == "histogram" else sample
    return Meaning(shown, kind, text, _own_unit(family))


def steps(families: Families, site: "Site", server_stats: ServerStats, now: int) -> Iterator[None]:
    """Adds meterd's own metrics to `families`, in steps; `now` is Unix ms.

    It pauses now and then: a thousand devices take a tenth of a second, and polls have to go on.
    """
    process(families, site, now)
    clients(families, server_stats)
    named: dict[str, Labels] = {}
    measured = site.daemon_metrics
    for number, known in enumerate(site.devices()):
        state = site.latest.states.get(known.id)
        if state is not None:
            labels = named[known.id] = {**names.device_labels(known.labels), "device": known.id}
            device(families, known, state, labels)
            if (durations := measured.polls.get(known.id)) is not None:
                families.histogram("meterd_poll_duration_seconds", durations, labels)
        if number % AT_ONCE == AT_ONCE - 1:
            yield
    daemon_metrics(families, measured, named)


def device(families: Families, device: "DeviceInfo", state: DeviceState, labels: Labels) -> None:
    """The metrics of one device's polls; `labels`: the device's."""
    texts = {name.removeprefix("info."): state.info[name] for name in INFO if name in state.info}
    told = {name: text for name, text in texts.items() if name != "model"}
    model = device.model or texts.get("model", "")
    families.own("meterd_device", 1, {**labels, **told, "driver": device.driver, "model": model})
    families.own("meterd_polls", state.polls, labels)
    families.own("meterd_poll_failures", state.failures, labels)


def daemon_metrics(
    families: Families, daemon_metrics: DaemonMetrics, devices: Mapping[str, Labels]
) -> None:
    """Faults and load. `devices`: the labels of each device."""
    for (name, code), count in sorted(daemon_metrics.faults.items()):
        if name in devices:
            families.own("meterd_poll_faults", count, {**devices[name], "code": code})
    for link, seconds in daemon_metrics.busy.items():
        families.own("meterd_link_busy_seconds", seconds, {"link": link})
    families.histogram("meterd_loop_lag_seconds", daemon_metrics.lag)


def clients(families: Families, server_stats: ServerStats) -> None:
    """Connections and streams."""
    families.own("meterd_connections", server_stats.connections)
    families.own("meterd_connections_refused", server_stats.refused)
    families.own("meterd_streams", server_stats.streams)
    families.own("meterd_streams_slow", server_stats.slow)
    if (expires := server_stats.certificate_expires()) is not None:
        families.own("meterd_certificate_expiry_timestamp_seconds", expires)


def process(families: Families, site: "Site", now: int) -> None:
    """meterd as a whole; `now` is Unix ms."""
    versions = {"version": __version__, "python": platform.python_version()}
    families.own("meterd_build", 1, versions)
    families.own("meterd_start_time_seconds", site.started / 1000)
    families.own("meterd_uptime_seconds", max(0, now - site.started) / 1000)
    for url, events in site.link_counters().items():
        for event, count in events.items():
            families.own("meterd_link_events", count, {"link": url, "event": event})
    for (device, kind), count in site.event_counts().items():
        families.own("meterd_events", count, {"device": device, "kind": kind})
    _alerts(families, site)
    _store(families, site)


def _store(families: Families, site: "Site") -> None:
    store = site.store_status()
    families.own("meterd_store_writable", float(store.writable))
    families.own("meterd_store_queued_samples", store.queued)
    families.own("meterd_store_committed_samples", store.committed)
    families.own("meterd_store_dropped_samples", store.dropped)
    families.own("meterd_store_spooled_samples", store.spooled)
    families.own("meterd_store_files_set_aside", store.set_aside)
    families.own("meterd_store_begun_anew", store.begun_anew)
    if not store.last_commit:
        return
    families.own("meterd_store_last_commit_timestamp_seconds", store.last_commit)
    families.own("meterd_store_last_commit_duration_seconds", store.took)


def _alerts(families: Families, site: "Site") -> None:
    counts = Counter((alert.state, alert.severity) for alert in site.alerts())
    for state in (AlertState.PENDING, AlertState.FIRING):
        # Always there, so that "none" can be told from "not scraped".
        counts.setdefault((state, "warning"), 0)
    for (state, severity), count in sorted(counts.items()):
        families.own("meterd_alerts", count, {"state": state, "severity": severity})
