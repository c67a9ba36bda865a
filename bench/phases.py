"""A three-phase meter of forty series at 10 s, filled in from a real house at one row a minute.

Phases are three years of the data. Between two minutes a load either steps at a random poll or
wanders from one to the other; the meter adds 0.1 % of noise of its own, as a real recording at
1 Hz shows (0.06 %). Frequency, distortion and temperature are modelled.
"""

import gzip
import itertools
import random
from array import array
from collections.abc import Iterator
from math import hypot, sqrt
from pathlib import Path

STEP = 10  # seconds
YEAR = 525_600  # minutes
NOISE = 0.001
COUNTERS = 9

Row = tuple[float, float, float]


def minutes(path: Path, first: int, count: int) -> list[list[Row]]:
    """Per phase, so many minutes of (W, var, V) from minute `first` of the year on.

    A missing minute is like the one before.
    """
    phases: list[list[Row]] = []
    with gzip.open(path, "rt") as lines:
        next(lines)
        at = 0
        for year in range(3):
            start = year * YEAR + first
            wanted = itertools.islice(lines, start - at, start - at + count)
            phases.append(list(_filled(wanted)))
            at = start + count
    return phases


def _filled(lines: Iterator[str]) -> Iterator[Row]:
    row = (300.0, 50.0, 235.0)
    for line in lines:
        if line.strip():
            watts, var, centivolts = map(float, line.split(",")[:3])
            row = (watts, var, centivolts / 100)
        yield row


def _between(rng: random.Random, one: float, other: float, steps: int) -> list[float]:
    """The polls of one minute."""
    if abs(other - one) > 0.05 * abs(one) + 5:
        turn = rng.randrange(steps)
        return [one if i < turn else other for i in range(steps)]
    wander = abs(other - one) + NOISE * abs(one)
    parts = [i / steps for i in range(steps)]
    return [one + (other - one) * p + rng.gauss(0, wander) * sqrt(p * (1 - p)) for p in parts]


def _noisy(rng: random.Random, values: list[float]) -> list[float]:
    return [value * rng.gauss(1, NOISE) for value in values]


def _lane(rng: random.Random, rows: list[Row], which: int, step: int) -> list[float]:
    pairs = itertools.pairwise(row[which] for row in rows)
    return [v for one, other in pairs for v in _between(rng, one, other, 60 // step)]


def _energy(watts: list[float], start: float, step: int) -> list[float]:
    wh = itertools.accumulate((w * step / 3600 for w in watts), initial=start)
    return [float(int(value)) for value in itertools.islice(wh, len(watts))]


def _walk(rng: random.Random, count: int, mean: float, pull: float, sigma: float) -> list[float]:
    value, walk = mean, []
    for _ in range(count):
        value += pull * (mean - value) + rng.gauss(0, sigma)
        walk.append(value)
    return walk


def _rounded(values: list[float], digits: int) -> "array[float]":
    return array("d", [round(value, digits) for value in values])


def _phase(
    rng: random.Random, rows: list[Row], start: float, step: int
) -> tuple[list[list[float]], list[int]]:
    """V, I, P, Q, S, power factor, distortion, import, export; and the digits of each."""
    watts = _lane(rng, rows, 0, step)
    var, volts = _noisy(rng, _lane(rng, rows, 1, step)), _lane(rng, rows, 2, step)
    volts = [v * rng.gauss(1, NOISE / 3) for v in volts]
    energy = _energy(watts, start, step)
    watts = _noisy(rng, watts)
    apparent = list(map(hypot, watts, var))
    amps = [s / v for s, v in zip(apparent, volts, strict=True)]
    factor = [p / s if s else 1.0 for p, s in zip(watts, apparent, strict=True)]
    distortion = _walk(rng, len(watts), 2.1, 0.01, 0.05)
    lanes = [volts, amps, watts, var, apparent, factor, distortion, energy, [0.0] * len(watts)]
    return lanes, [1, 3, 1, 1, 1, 3, 1, 0, 0]


def _sum(phases: list[list[list[float]]], which: int) -> list[float]:
    return [sum(values) for values in zip(*(lanes[which] for lanes in phases), strict=True)]


def series(rows: list[list[Row]], seed: int = 1, step: int = STEP) -> list["array[float]"]:
    """Forty series, all of equal length, one value each `step` s; the last nine count Wh."""
    rng = random.Random(seed)
    starts = [4_100_000.0 + 777_777 * n for n in range(len(rows))]
    made = [_phase(rng, one, start, step) for one, start in zip(rows, starts, strict=True)]
    phases, digits = [lanes for lanes, _ in made], made[0][1]
    gauges = [_rounded(lanes[i], digits[i]) for i in range(7) for lanes in phases]
    count = len(gauges[0])
    watts, var, amps = _sum(phases, 2), _sum(phases, 3), _sum(phases, 1)
    apparent = list(map(hypot, watts, var))
    factor = [p / s if s else 1.0 for p, s in zip(watts, apparent, strict=True)]
    chains = [[a * 1.732 for a in lanes[0]] for lanes in phases]
    gauges += [_rounded(chain, 1) for chain in chains]
    gauges += [_rounded(lane, 1) for lane in (watts, var, apparent)]
    gauges += [_rounded(factor, 3), _rounded(amps, 3)]
    gauges.append(_rounded(_walk(rng, count, 50.0, 0.02, 0.01), 2))
    gauges.append(_rounded(_walk(rng, count, 31.0, 0.001, 0.02), 1))
    counters = [_rounded(lanes[7], 0) for lanes in phases] + [_rounded(phases[0][8], 0)] * 4
    counters.append(_rounded(_sum(phases, 7), 0))
    counters.append(_rounded(_energy(var, 90_000.0, step), 0))
    return gauges + counters
