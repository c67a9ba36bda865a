"""The one place that turns a quantity into a metric's name: /metrics and PromQL agree by it.

    active_energy.import.l1 -> meterd_active_energy_import_watthours_total{phase="l1"}

Energy stays in watt-hours, though Prometheus' base unit is the joule: meters count watt-hours,
REST and the store hold them, so one figure reads the same everywhere and no rounding gets in
between. kWh are `/ 1000`. Percents stay percents for the same reason. A counter's register and
meterd's own running total of it (guarded.*) are two metrics: the second has `guarded_` in front.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from meterd.model.quantity import CATALOGUE, UNIT_WORDS, Kind, Quantity, describe

Labels = Mapping[str, str]

# Labels that have a meaning of their own: a device's label of that name gets out of the way.
_OWN_LABELS = frozenset({"device", "phase", "quantity", "quantile", "le", "link", "code"})
_SUFFIX = re.compile(r"_(total|created|info|bucket|count|sum|gcount|gsum)$")
_NO_LETTER = re.compile(r"[^a-zA-Z0-9_]")

# Families of meterd itself: name, type, help. Counters are named without their _total.
OWN: Mapping[str, tuple[str, str]] = {
    "meterd_build": ("info", "The version of meterd and of Python"),
    "meterd_start_time_seconds": ("gauge", "When meterd was started, Unix time"),
    "meterd_uptime_seconds": ("gauge", "How long meterd has been running"),
    "meterd_device": ("info", "What a device is: driver, model, and what it says of itself"),
    "meterd_polls": ("counter", "Polls of a device"),
    "meterd_poll_failures": ("counter", "Polls that ended without an answer"),
    "meterd_poll_faults": ("counter", "Polls that ended without an answer, by what went wrong"),
    "meterd_poll_duration_seconds": ("histogram", "Time that polls took, good and failed"),
    "meterd_link_events": ("counter", "What happened on a link, by kind of event"),
    "meterd_events": ("counter", "What was noticed, by device (empty: meterd itself) and kind"),
    "meterd_link_busy_seconds": (
        "counter",
        "Time that a link polled; its rate is the load",
    ),
    "meterd_connections": ("gauge", "Connections to the API"),
    "meterd_connections_refused": ("counter", "Connections that there was no room for"),
    "meterd_streams": ("gauge", "Clients that follow changes as they happen"),
    "meterd_streams_slow": ("counter", "How often the client of a stream fell behind"),
    "meterd_certificate_expiry_timestamp_seconds": (
        "gauge",
        "When the certificate of the API, or one of its chain, expires, Unix time",
    ),
    "meterd_alerts": ("gauge", "Alerts by state and severity"),
    "meterd_tariff_price": (
        "gauge",
        "Price of a kilowatt hour, by tariff, in its currency; direction is import or export",
    ),
    "meterd_active_energy_import_local_day_watthours": (
        "gauge",
        "Active energy, import, of the whole local day that the moment lies in; today's so far",
    ),
    "meterd_active_energy_export_local_day_watthours": (
        "gauge",
        "Active energy, export, of the whole local day that the moment lies in; today's so far",
    ),
    "meterd_loop_lag_seconds": ("histogram", "How late the event loop wakes what is due"),
    "meterd_store_writable": ("gauge", "The store takes samples"),
    "meterd_store_queued_samples": ("gauge", "Samples that wait for the next commit"),
    "meterd_store_committed_samples": ("counter", "Samples that are safely stored"),
    "meterd_store_dropped_samples": ("counter", "Samples that were lost on the way to the store"),
    "meterd_store_spooled_samples": ("gauge", "Samples in files, until the store takes them"),
    "meterd_store_files_set_aside": ("counter", "Database files that were damaged, and put aside"),
    "meterd_store_begun_anew": ("counter", "How often another file had the database's name"),
    "meterd_store_last_commit_duration_seconds": ("gauge", "Time that the last commit took"),
    "meterd_store_last_commit_timestamp_seconds": ("gauge", "The last commit, Unix time"),
}


def stored_quantity(name: str, unit: str, kind: str) -> Quantity:
    """The catalogue's row, in the unit that is stored: an older catalogue may have had another."""
    described = describe(name, unit)
    if described is None:
        return Quantity(name, unit, Kind(kind), "No longer in the catalogue")
    if name not in CATALOGUE and kind == Kind.COUNTER:
        # A user's own counts as the store says, where no map that declares it is loaded.
        return replace(described, kind=Kind.COUNTER)
    return described if described.unit == unit else replace(described, unit=unit)


def without_suffix(name: str) -> str:
    """`meterd_polls_total` -> `meterd_polls`: what a family is called."""
    return _SUFFIX.sub("", name)


_TAKEN = frozenset(
    without_suffix(quantity.prometheus) for quantity in CATALOGUE.values()
) | frozenset(OWN)


def metric_name(quantity: Quantity) -> str:
    """The quantity's metric; a user's own gets out of the way of names that have a meaning."""
    if not quantity.name.startswith("x."):
        return quantity.prometheus
    name = _NO_LETTER.sub("_", quantity.prometheus)
    total = "_total" if quantity.kind is Kind.COUNTER else ""
    stem = name.removesuffix(total)
    if without_suffix(stem) in _TAKEN or _SUFFIX.search(stem):
        return f"meterd_x_{stem.removeprefix('meterd_')}_value{total}"
    return name


def metric_unit(quantity: Quantity) -> str:
    """The word of the unit that the name ends in, less `_total`; empty where it has none."""
    unit = UNIT_WORDS.get(quantity.unit, "")
    family = metric_name(quantity).removesuffix("_total")
    return unit if unit and family.endswith(f"_{unit}") else ""


def _texts() -> dict[str, str]:
    """Metric -> help. The quantity without a phase knows best what its family is."""
    texts: dict[str, str] = {}
    for quantity in sorted(CATALOGUE.values(), key=lambda quantity: bool(quantity.phase)):
        texts.setdefault(quantity.prometheus, _text(quantity))
    return texts


def _text(quantity: Quantity) -> str:
    """The help text without the phase."""
    phase = f", {quantity.phase.upper()}"
    return quantity.text.replace(phase, "", 1) if quantity.phase else quantity.text


_TEXTS = _texts()


def metric_text(quantity: Quantity) -> str:
    """The help text of a metric family, which all phases share."""
    return _TEXTS.get(metric_name(quantity)) or _text(quantity)


def metric_type(quantity: Quantity) -> str:
    return "counter" if quantity.kind is Kind.COUNTER else "gauge"


class Meaning(NamedTuple):
    """The metadata of a metric; `name`: its name in PromQL."""

    name: str
    type: str
    help: str
    unit: str


@lru_cache(4096)
def meaning(quantity: Quantity) -> Meaning:
    name, kind = metric_name(quantity), metric_type(quantity)
    return Meaning(name, kind, metric_text(quantity), metric_unit(quantity))


def device_labels(labels: Labels) -> dict[str, str]:
    """A device's labels under names that Prometheus takes and that are not meterd's."""
    named: dict[str, str] = {}
    for name, value in sorted(labels.items()):
        plain = _NO_LETTER.sub("_", name)
        if plain in _OWN_LABELS or plain in named or not re.match(r"[a-zA-Z]", plain):
            plain = f"label_{plain}"
        while plain in named:
            plain += "_"
        named[plain] = value
    return named


def series_labels(quantity: Quantity, device: str, labels: Labels) -> dict[str, str]:
    """All labels of a series but its name; `labels` as device_labels() gives them."""
    named = {name: value for name, value in labels.items() if value}
    named["device"] = device
    if quantity.phase:
        named["phase"] = quantity.phase
    if quantity.name.startswith("x."):
        # x.a.b and x.a_b share a metric: only this keeps their series apart.
        named["quantity"] = quantity.name
    return named
