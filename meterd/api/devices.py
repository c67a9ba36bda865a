"""The devices of a site: what they are, whether they answer, how their polls went."""

from collections.abc import Container
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from meterd.api import lookups
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.problem import unknown
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339
from meterd.errors import StoreError
from meterd.poll.latest import DeviceState

if TYPE_CHECKING:
    from meterd.daemon.info import DeviceInfo
    from meterd.drivers.exclusions import LeftOut


class LastError(BaseModel):
    code: str = Field(description="Stable word: timeout, refused, port_gone, …")
    text: str
    time: str | None = Field(description="When it happened, RFC 3339")


class Latency(BaseModel):
    """Of the last hundred good polls, in milliseconds; null before the first."""

    p50: float | None
    p99: float | None


class DeviceLeftOut(BaseModel):
    """Registers that are not read at the moment, as the device refuses them or does not reply."""

    quantities: list[str]
    function: int
    registers: list[int]
    max_registers: int | None = Field(description="What it gives at once, where that is less")
    cause: str = Field(description="refused or silent")
    reason: str
    seconds: float = Field(description="For how long it has been left out")
    again_in: float = Field(description="Seconds until it is tried again, at the end of a poll")


class Device(BaseModel):
    id: str
    driver: str
    model: str | None = Field(description="Register map or model, where the driver has one")
    link: str = Field(description="Link URL, without secrets")
    interval: float = Field(description="Seconds between polls")
    enabled: bool
    labels: dict[str, str]
    up: bool | None = Field(description="Answered its last poll; null before the first")
    since: str | None = Field(description="Since when `up` has been what it is, RFC 3339")
    last_error: LastError | None = Field(description="Newest failure; stays after recovery")
    info: dict[str, str] = Field(description="Texts the device tells: info.model, info.firmware …")
    polls: int
    failures: int
    latency_ms: Latency
    timeout_ms: float | None = Field(
        description="What an exchange may take at most now; it learns from the latency"
    )
    left_out: list[DeviceLeftOut] = Field(description="What the device does not answer now")
    states: dict[str, dict[str, str]] = Field(
        description="What the numbers of enumerated quantities mean, by quantity and number"
    )


class StoredDevice(BaseModel):
    """A device of which only history is left: GET range, energy, export and series have it."""

    id: str
    first: str = Field(description="Time of its oldest sample, RFC 3339")
    last: str = Field(description="Time of its newest sample, RFC 3339")


class Devices(BaseModel):
    devices: list[Device]
    stored: list[StoredDevice] = Field(
        description="Devices that only the store knows: the configuration has them no more"
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)


def _latency(state: DeviceState, quantile: float) -> float | None:
    seconds = state.latency(quantile)
    return None if seconds is None else round(seconds * 1000, 3)


def _left_out(left_out: "LeftOut") -> dict[str, Any]:
    return {
        "quantities": list(left_out.rows),
        "function": left_out.function,
        "registers": list(left_out.registers),
        "max_registers": left_out.most,
        "cause": left_out.cause,
        "reason": left_out.reason,
        "seconds": round(left_out.lasts, 3),
        "again_in": round(left_out.again, 3),
    }


def describe(device: "DeviceInfo", state: DeviceState) -> dict[str, Any]:
    """A Device as plain data."""
    error = None
    if state.fault is not None:
        fault = state.fault
        error = {"code": fault.code, "text": fault.text, "time": _time(state.fault_time)}
    return {
        "id": device.id,
        "driver": device.driver,
        "model": device.model,
        "link": device.link,
        "interval": device.interval,
        "enabled": device.enabled,
        "labels": dict(device.labels),
        "up": state.up,
        "since": _time(state.since),
        "last_error": error,
        "info": dict(state.info),
        "polls": state.polls,
        "failures": state.failures,
        "latency_ms": {"p50": _latency(state, 0.5), "p99": _latency(state, 0.99)},
        "left_out": [_left_out(rows) for rows in device.left_out()],
        "timeout_ms": None if device.timeout is None else round(device.timeout * 1000, 3),
        "states": {
            quantity: {str(number): text for number, text in texts.items()}
            for quantity, texts in device.states.items()
        },
    }


async def list_all(call: ApiCall, query: NoQuery) -> ApiAnswer:
    states = call.site.latest.states
    devices = call.site.devices()
    stored = await _stored_only(call, {device.id for device in devices})
    rows = [describe(d, states.get(d.id) or DeviceState()) for d in devices]
    return as_json({"devices": rows, "stored": stored})


async def _stored_only(call: ApiCall, configured: Container[str]) -> list[dict[str, str]]:
    """Devices that only the store knows."""
    spans: dict[str, tuple[int, int]] = {}
    try:
        series = await call.site.reader.series()
    except StoreError:
        return []
    for info in series:
        if info.device not in configured and info.first is not None and info.last is not None:
            first, last = spans.get(info.device, (info.first, info.last))
            spans[info.device] = min(first, info.first), max(last, info.last)
    return [
        {"id": name, "first": rfc3339(first), "last": rfc3339(last)}
        for name, (first, last) in sorted(spans.items())
    ]


async def show(call: ApiCall, query: NoQuery) -> ApiAnswer:
    name = call.path["id"]
    for device in call.site.devices():
        if device.id == name:
            state = call.site.latest.states.get(name) or DeviceState()
            return as_json(describe(device, state))
    refusal = unknown("device", name, (device.id for device in call.site.devices()))
    if (now := lookups.former(call.site).get(name)) is not None:
        refusal.hint = f"it was renamed: it is called {now} now"
    if any(stored["id"] == name for stored in await _stored_only(call, ())):
        refusal.hint = "its history is in the store: see GET series, range, energy and export"
    raise refusal
