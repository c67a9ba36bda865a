"""Serializers of live streams: the full state once, then changes."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from meterd.api import alerts
from meterd.api.answer import encode
from meterd.api.latest import newest
from meterd.api.times import rfc3339
from meterd.model.quantity import DEVICE_UP
from meterd.model.sample import Poll, Quality, QualityFlag
from meterd.poll.latest import DeviceState

if TYPE_CHECKING:
    from meterd.daemon.info import DeviceInfo
    from meterd.daemon.site import Site

Said = dict[str, tuple[float | None, QualityFlag]]
"""What was last told of a device, by quantity."""

_GOOD = QualityFlag(Quality.GOOD, "")


class Filter(NamedTuple):
    """Whom and what a client wants to hear of; empty is all."""

    devices: frozenset[str] = frozenset()
    quantities: frozenset[str] = frozenset()

    def wants_device(self, device: str) -> bool:
        return not self.devices or device in self.devices


class LiveChange(NamedTuple):
    """One flush: its number, time, the changed samples of each poll, and the changed alerts.

    `gone` are the id and device of those that are listed no more.
    """

    number: int
    time: int
    polls: tuple[dict[str, Any], ...]
    alerts: tuple[dict[str, Any], ...] = ()
    gone: tuple[tuple[str, str], ...] = ()


def sample(value: float | None, unit: str, doubt: QualityFlag) -> dict[str, Any]:
    """As `meterd poll --format json` writes it."""
    fields: dict[str, Any] = {"value": value, "unit": unit, "quality": doubt.quality}
    if doubt.reason:
        fields["reason"] = doubt.reason
    return fields


def of_poll(poll: Poll, since: int | None, said: Said) -> dict[str, Any]:
    """The samples of a poll that differ from those `said` before, which is updated."""
    changed: dict[str, Any] = {}
    same: list[str] = []
    layout, doubts = poll.layout, poll.doubts
    for column, quantity in enumerate(layout.quantities):
        now = poll.values[column], doubts.get(column, _GOOD) if doubts else _GOOD
        if said.get(quantity) == now:
            same.append(quantity)
        else:
            said[quantity] = now
            changed[quantity] = sample(now[0], layout.units[column], now[1])
    if not poll.up:
        # What is measured after an outage is news, whatever it is.
        said.clear()
    return {**_head(poll, since), "samples": changed, "same": same}


def _head(poll: Poll, since: int | None) -> dict[str, Any]:
    fault = poll.fault
    return {
        "device": poll.device,
        "time": rfc3339(poll.time),
        "up": poll.up,
        "since": None if since is None else rfc3339(since),
        "error": None if fault is None else {"code": fault.code, "text": fault.text},
    }


def cut(poll: Mapping[str, Any], quantities: Collection[str]) -> dict[str, Any] | None:
    """A poll with only these quantities; None where nothing is left of it that matters."""
    samples = {name: fields for name, fields in poll["samples"].items() if name in quantities}
    same = [name for name in poll["same"] if name in quantities]
    # Who hears nothing of `device.up` has to learn all the same that a device is gone or back.
    turned = DEVICE_UP in poll["samples"] or not poll["up"]
    return {**poll, "samples": samples, "same": same} if samples or same or turned else None


def changes(change: LiveChange, filter_: Filter) -> bytes | None:
    """The JSON of one change for those who want that; None where it holds nothing for them."""
    polls: Iterable[dict[str, Any] | None] = change.polls
    if filter_.devices:
        polls = [row for row in change.polls if row["device"] in filter_.devices]
    if filter_.quantities:
        polls = [cut(row, filter_.quantities) for row in polls if row is not None]
    devices = [row for row in polls if row is not None]
    alert_rows = [row for row in change.alerts if filter_.wants_device(row["device"])]
    gone = [name for name, device in change.gone if filter_.wants_device(device)]
    if not (devices or alert_rows or gone):
        return None
    body: dict[str, Any] = {"time": rfc3339(change.time), "devices": devices}
    if alert_rows or gone:
        body["alerts"] = alert_rows
        body["alerts_gone"] = gone
    return encode(body)


def state(site: "Site", filter_: Filter, now: int) -> bytes:
    """The present state as JSON; `now` is Unix ms."""
    states = site.latest.states
    devices = [
        _device(device, device_state, device_state.last, filter_, now)
        for device in site.devices()
        if filter_.wants_device(device.id)
        and (device_state := states.get(device.id)) is not None
        and device_state.last is not None
    ]
    wanted_alerts = (alert for alert in site.alerts() if filter_.wants_device(alert.device))
    found_alerts = [alerts.row(site.alerting, alert) for alert in wanted_alerts]
    return encode({"time": rfc3339(now), "devices": devices, "alerts": found_alerts})


def _device(
    device: "DeviceInfo", device_state: DeviceState, last: Poll, filter_: Filter, now: int
) -> dict[str, Any]:
    samples: dict[str, Any] = {}
    for poll, stale in newest(device, device_state, now):
        layout = poll.layout
        for column, quantity in enumerate(layout.quantities):
            if quantity in samples or (filter_.quantities and quantity not in filter_.quantities):
                continue
            doubt = stale or poll.doubts.get(column, _GOOD)
            fields = sample(poll.values[column], layout.units[column], doubt)
            samples[quantity] = {**fields, "time": rfc3339(poll.time)}
    return {**_head(last, device_state.since), "samples": samples}
