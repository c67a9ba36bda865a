"""The series that both sides get: meters, counters, gaps, a histogram, and odd values.

Prometheus 2.42 has closed windows, meterd (as Prometheus 3) left-open ones. So no sample lies on
a whole second, and no question is asked on a whole minute: then both choose the same samples.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meterd.promql.source import Labelled, Times, Values, stale_mark

# 4 s past a whole minute; two hours of samples from there on.
START = 1_760_000_044_000
END = START + 7_200_000
MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    times: Times
    values: Values


def _off_the_grid(time: int) -> int:
    return time + 3 if time % 1000 == 0 else time


def _times(every: int, shift: int, jitter: int, seed: int, end: int = END) -> list[int]:
    dice = random.Random(seed)
    grid = range(START + shift, end, every)
    return [_off_the_grid(time + dice.randint(-jitter, jitter)) for time in grid]


def _made(
    labels: Mapping[str, str],
    times: Sequence[int],
    value: Callable[[int], float],
    ends: Sequence[int] = (),
) -> Series:
    """A series of value(number of the sample); `ends` are times of stale marks."""
    points = [(time, value(number)) for number, time in enumerate(times)]
    order = np.array([time for time, _ in points], dtype=np.int64)
    values = np.array([number for _, number in points], dtype=np.float64)
    marks = np.array(sorted(ends), dtype=np.int64)
    places = np.searchsorted(order, marks)
    return Series(
        labels,
        np.insert(order, places, marks),
        np.insert(values, places, np.repeat(stale_mark(), len(marks))),
    )


def _power() -> Iterator[Series]:
    for number, device in enumerate(("heatpump", "main", "solar")):
        sign = -1.0 if device == "solar" else 1.0
        for phase in (1, 2, 3):
            dice = random.Random(number * 10 + phase)
            values = [sign * round(dice.uniform(50, 2500), 1) for _ in range(1000)]
            labels = {"__name__": "power_watts", "device": device, "phase": f"l{phase}"}
            times = _times(10_000, 3217 + phase, 900, number)
            yield _made(labels | {"site": "home"}, times, values.__getitem__)


def _energy() -> Iterator[Series]:
    """Counters: a smooth one, one with resets, a slow one, one that starts at zero late."""
    name = "energy_watthours_total"
    ten, slow = _times(10_000, 3217, 0, 1), _times(60_000, 7431, 2000, 2)
    yield _made({"__name__": name, "device": "main"}, ten, lambda n: 1_234_567.0 + 3 * n)
    resets = [(n * 17.5) % 1900 for n in range(1000)]
    yield _made({"__name__": name, "device": "heatpump"}, ten, resets.__getitem__)
    yield _made({"__name__": name, "device": "solar"}, slow, lambda n: 0.25 * n * n)
    late = _times(15_000, 3_000_541, 300, 3)
    yield _made({"__name__": name, "device": "garage"}, late, lambda n: float(5 * n))


def _gaps() -> Iterator[Series]:
    """Ends with and without a mark, and returns."""
    every = _times(10_000, 2611, 0, 4)
    name, out = "load_ratio", range(START + 2_400_000, START + 3_600_000)
    there = [time for time in every if time not in out]
    marks = [next(time for time in every if time in out)]
    yield _made({"__name__": name, "device": "marked"}, there, lambda n: n / 7, marks)
    yield _made({"__name__": name, "device": "silent"}, there, lambda n: n / 9)
    yield _made({"__name__": name, "device": "ended"}, every[:200], float, [every[200]])
    flaky = [time for n, time in enumerate(every) if n % 7 != 3]
    lost = [time for n, time in enumerate(every) if n % 7 == 3]
    yield _made({"__name__": name, "device": "flaky"}, flaky, lambda n: math.sin(n / 20), lost)
    yield _made({"__name__": name, "device": "once"}, every[300:301], lambda n: 42.0)
    yield _made({"__name__": name, "device": "rare"}, every[::50], lambda n: float(n % 5))


def _status() -> Iterator[Series]:
    times = _times(10_000, 1733, 100, 5)
    for number, letter in enumerate(("ob", "ol", "lb")):
        labels = {"__name__": "ups_status", "device": "ups", "letter": letter}
        yield _made(labels, times, lambda n, k=number: float((n // (40 + 13 * k)) % 2))  # type: ignore[misc]


def _infos() -> Iterator[Series]:
    times = _times(30_000, 5123, 0, 6)
    for device, model in (("main", "SDM630"), ("heatpump", "SDM630"), ("solar", "SDM120 €")):
        labels = {"__name__": "device_info", "device": device, "model": model}
        yield _made(labels, times, lambda n: 1.0)
    for device, price in (("main", 0.31), ("heatpump", 0.22)):
        labels = {"__name__": "price", "device": device, "tariff": "day"}
        yield _made(labels, times, lambda n, p=price: p)  # type: ignore[misc]


def _histogram() -> Iterator[Series]:
    times = _times(15_000, 4127, 0, 7)
    bounds = ("0.1", "0.25", "0.5", "1", "2.5", "+Inf")
    for number, device in enumerate(("main", "solar")):
        for place, le in enumerate(bounds):
            labels = {"__name__": "poll_seconds_bucket", "device": device, "le": le}
            rise = (place + 1) * (number + 2) + place * place
            yield _made(labels, times, lambda n, r=rise: float(r * n))  # type: ignore[misc]
        labels = {"__name__": "poll_seconds_count", "device": device}
        yield _made(labels, times, lambda n, k=number: float((6 * (k + 2) + 25) * n))  # type: ignore[misc]


def _odd() -> Iterator[Series]:
    times = _times(10_000, 6299, 0, 8)
    nan, inf = math.nan, math.inf
    for kind, cycle in (
        ("nan", (1.0, nan, 3.0, 4.0)),
        ("inf", (1.0, 2.0, inf, 4.0)),
        ("minus", (-1.0, -inf, -3.0, -4.0)),
        ("all_nan", (nan,)),
        ("tiny", (1e-9, 2.5e-300, 0.0, -1e-7)),
        ("huge", (1e18, -1e21, 1e300, 123456789012345680.0)),
        ("zero", (0.0, -0.0)),
        ("constant", (7.25,)),
    ):
        labels = {"__name__": "odd", "kind": kind}
        yield _made(labels, times, lambda n, c=cycle: c[n % len(c)])  # type: ignore[misc]


def everything() -> list[Series]:
    makers = (_power, _energy, _gaps, _status, _infos, _histogram, _odd)
    return [series for make in makers for series in make()]


class ArraySource:
    """The samples as meterd's engine asks for them."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._series = series

    def names(self) -> Sequence[Labelled]:
        return [Labelled(one.labels) for one in self._series]

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        found = []
        for one in (self._series[number] for number in ids):
            first, last = np.searchsorted(one.times, (start, end), side="right")
            found.append((one.times[first:last], one.values[first:last]))
        return found
