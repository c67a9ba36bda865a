"""Questions put together by dice, deeper than anybody writes them by hand. Always the same ones."""

import random
from collections.abc import Iterator

from tests.promql.differential.queries import ENERGY, LOAD, POWER, Question

_SEED = 20261121
_COUNT = 250
_SELECTORS = (
    *(POWER, f'{POWER}{{phase="l1"}}', f'{POWER}{{device!="solar"}}', LOAD, "price"),
    *(ENERGY, "ups_status", f"{POWER} offset 3m", f"{LOAD} offset 25m", "device_info"),
)
# Not rate and increase of what has gaps: there 2.42 and 3 differ at the left edge.
_RANGED = ("avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "last_over_time")
_MORE_RANGED = ("count_over_time", "delta", "idelta", "changes", "stddev_over_time", "deriv")
_MATHS = ("abs", "sgn", "exp", "sqrt", "ln", "cos", "-", "sort", "atan")
_GROUPS = ("", " by (device)", " by (device, phase)", " without (phase, site)", " by (letter)")
_WINDOWS = ("90s", "4m", "11m")


class Dice:
    """Makes expressions; every part is a vector."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def _pick(self, *choices: str) -> str:
        return self._dice.choice(choices)

    def vector(self, depth: int, *, within: bool = False) -> str:
        """`within` a subquery there is no other: its steps would lie on the grid."""
        if depth == 0:
            return self._pick(*_SELECTORS)
        makers = [self._maths, self._grouped, self._scaled, self._matched, self._joined]
        makers += [self._ranged] if within else [self._ranged, self._subquery]
        made: str = self._dice.choice(makers)(depth - 1, within)
        return made

    def _maths(self, depth: int, within: bool) -> str:
        return f"{self._pick(*_MATHS)}({self.vector(depth, within=within)})"

    def _grouped(self, depth: int, within: bool) -> str:
        operator = self._pick("sum", "avg", "min", "max", "count", "group", "stddev")
        return f"{operator}{self._pick(*_GROUPS)} ({self.vector(depth, within=within)})"

    def _scaled(self, depth: int, within: bool) -> str:
        sign = self._pick("+", "-", "*", "/", ">", "<", "> bool", "<= bool")
        number = self._pick("3", "0.5", "-7.25", "1000")
        return f"({self.vector(depth, within=within)}) {sign} {number}"

    def _matched(self, depth: int, within: bool) -> str:
        one, many = (self.vector(depth, within=within) for _ in range(2))
        sign = self._pick("+", "-", "*", "/", ">", "<=")
        grouped = f"{self._pick('sum', 'max', 'avg')} by (device) ({one})"
        return f"({many}) {sign} on (device) group_left {grouped}"

    def _joined(self, depth: int, within: bool) -> str:
        left, right = (self.vector(depth, within=within) for _ in range(2))
        word = self._pick("and", "or", "unless", "and on (device)", "unless on (device)")
        return f"({left}) {word} ({right})"

    def _ranged(self, depth: int, within: bool) -> str:
        function = self._pick(*_RANGED, *_MORE_RANGED, "rate", "increase", "irate", "resets")
        metric = self._pick(POWER, LOAD, ENERGY, "ups_status")
        if function in ("rate", "increase", "irate"):
            metric = f'{ENERGY}{{device!="garage"}}'
        return f"{function}({metric}[{self._pick(*_WINDOWS)}])"

    def _subquery(self, depth: int, within: bool) -> str:
        inner = self.vector(depth, within=True)
        window = self._pick("5m:1m", "12m:2m", "8m:30s")
        return f"{self._pick(*_RANGED)}(({inner})[{window}])"


def composed() -> Iterator[Question]:
    texts: dict[str, None] = {}
    dice = Dice(_SEED)
    while len(texts) < _COUNT:
        texts[dice.vector(1 + len(texts) % 3)] = None
    for text in texts:
        yield Question(text)
