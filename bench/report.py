"""How figures are printed: what was measured, the same of others, the goal, whether it was met."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `goal` is the most it should be; `beside` has the same of others."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)

    def cells(self, others: Iterable[str]) -> tuple[str, ...]:
        """What, value, those of the others, goal, verdict."""
        values = (self._told(self.beside.get(other)) for other in others)
        return self.what, self._told(self.value), *values, *self._verdict()

    def _told(self, value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:,.0f} {self.unit}" if value >= 1000 else f"{value:.3g} {self.unit}".rstrip()

    def _verdict(self) -> tuple[str, str]:
        if self.goal is None:
            return "", ""
        met = self.value <= self.goal
        verdict = "met" if met else f"missed by {self.value / self.goal - 1:.0%}"
        return f"≤ {self.goal:g} {self.unit}".rstrip(), verdict


def table(figures: Iterable[Figure]) -> Iterator[str]:
    """Lines, with a column for each of the others that any figure has."""
    figures = list(figures)
    others = list(dict.fromkeys(other for figure in figures for other in figure.beside))
    lines = [("what", "measured", *others, "goal", "verdict")]
    lines += [figure.cells(others) for figure in figures]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def show(figures: Iterable[Figure]) -> None:
    """Print them as a table."""
    for line in table(figures):
        print(line)
