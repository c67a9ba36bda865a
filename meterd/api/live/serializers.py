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
    """One flush: its number, when, what each poll said, and the alerts that are others now.

    `gone` are the id and device of those that are listed no more.
    """

    number: int
    time: int
    polls: tuple[dict[str, Any], ...]
    alerts: tuple[dict[str, Any], ...] = ()
    gone: tuple[tuple[str, str], ...] = ()


def sample(value: float | None, unit: str, doubt: QualityFlag) -> dict[str, Any]:
    """As `meterd poll --format json` writes it."""
    said: dict[str, Any] = {"value": value, "unit": unit, "quality": doubt.quality}
    if doubt.reason:
        said["reason"] = doubt.reason
    return said


def of_poll(poll: Poll, since: int | None, said: Said) -> dict[str, Any]:
    """One poll against what was `said` before, which it brings up to date."""
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
    samples = {name: one for name, one in poll["samples"].items() if name in quantities}
    same = [name for name in poll["same"] if name in quantities]
    # Who hears nothing of `device.up` has to learn all the same that a device is gone or back.
    turned = DEVICE_UP in poll["samples"] or not poll["up"]
    return {**poll, "samples": samples, "same": same} if samples or same or turned else None


def changes(change: LiveChange, wanted: Filter) -> bytes | None:
    """The JSON of one change for those who want that; None where it holds nothing for them."""
    polls: Iterable[dict[str, Any] | None] = change.polls
    if wanted.devices:
        polls = [one for one in change.polls if one["device"] in wanted.devices]
    if wanted.quantities:
        polls = [cut(one, wanted.quantities) for one in polls if one is not None]
    found = [one for one in polls if one is not None]
    alerts_found = [one for one in change.alerts if wanted.wants_device(one["device"])]
    gone = [name for name, device in change.gone if wanted.wants_device(device)]
    if not (found or alerts_found or gone):
        return None
    body: dict[str, Any] = {"time": rfc3339(change.time), "devices": found}
    if alerts_found or gone:
        body["alerts"] = alerts_found
        body["alerts_gone"] = gone
    return encode(body)


def state(site: "Site", wanted: Filter, now: int) -> bytes:
    """The JSON of all that is known now; `now` is Unix ms."""
    states = site.latest.states
    devices = [
        _device(one, found, found.last, wanted, now)
        for one in site.devices()
        if wanted.wants_device(one.id)
        and (found := states.get(one.id)) is not None
        and found.last is not None
    ]
    wanted_alerts = (one for one in site.alerts() if wanted.wants_device(one.device))
    found_alerts = [alerts.row(site.alerting, one) for one in wanted_alerts]
    return encode({"time": rfc3339(now), "devices": devices, "alerts": found_alerts})


def _device(
    device: "DeviceInfo", known: DeviceState, last: Poll, wanted: Filter, now: int
) -> dict[str, Any]:
    samples: dict[str, Any] = {}
    for poll, stale in newest(device, known, now):
        layout = poll.layout
        for column, quantity in enumerate(layout.quantities):
            if quantity in samples or (wanted.quantities and quantity not in wanted.quantities):
                continue
            doubt = stale or poll.doubts.get(column, _GOOD)
            said = sample(poll.values[column], layout.units[column], doubt)
            samples[quantity] = {**said, "time": rfc3339(poll.time)}
    return {**_head(last, known.since), "samples": samples}
