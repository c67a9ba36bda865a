"""How a figure is printed: what was measured, the goal if there is one, and whether it was met."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `goal` is the most it should be."""

    what: str
    value: float
    unit: str
    goal: float | None = None

    def line(self) -> tuple[str, str, str, str]:
        """What, value, goal, verdict."""
        value = f"{self.value:.3g} {self.unit}"
        if self.goal is None:
            return self.what, value, "", ""
        verdict = (
            "met" if self.value <= self.goal else f"missed by {self.value / self.goal - 1:.0%}"
        )
        return self.what, value, f"≤ {self.goal:g} {self.unit}", verdict
