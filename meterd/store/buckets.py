"""How the samples of a bucket become one point, also where a bucket is met in pieces."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

State = tuple[float, int]
"""What a piece of a bucket comes to: (sum, count), (extreme, 0) or (last value, its time)."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One aggregate. `one` is a single sample's state, from its time (Unix ms) and value."""

    one: Callable[[int, float], State]
    join: Callable[[State, State], State]
    point: Callable[[State], float]


def _counted(_time: int, value: float) -> State:
    return value, 1


def _extreme(_time: int, value: float) -> State:
    return value, 0


def _timed(time: int, value: float) -> State:
    return value, time


def _total(a: State, b: State) -> State:
    return a[0] + b[0], a[1] + b[1]


def _later(a: State, b: State) -> State:
    return a if a[1] > b[1] else b


def _value(state: State) -> float:
    return state[0]


FOLDS: dict[str, Fold] = {
    "avg": Fold(_counted, _total, lambda state: state[0] / state[1]),
    "min": Fold(_extreme, min, _value),
    "max": Fold(_extreme, max, _value),
    "last": Fold(_timed, _later, _value),
    "sum": Fold(_counted, _total, _value),
    "count": Fold(_counted, _total, lambda state: float(state[1])),
}


class Buckets:
    """The buckets of one series, `step` ms wide, [t, t + step), named by their start."""

    def __init__(self, fold: Fold, step: int) -> None:
        self._fold = fold
        self._step = step
        self._states: dict[int, State] = {}

    def add(self, samples: Iterable[tuple[int, float]]) -> None:
        for time, value in samples:
            self.join(time - time % self._step, self._fold.one(time, value))

    def join(self, start: int, state: State) -> None:
        """A piece of the bucket that begins at `start`."""
        known = self._states.get(start)
        self._states[start] = state if known is None else self._fold.join(known, state)

    def points(self) -> list[tuple[int, float]]:
        """(start, value) of each bucket with samples, in time order."""
        point = self._fold.point
        return [(start, point(state)) for start, state in sorted(self._states.items())]
