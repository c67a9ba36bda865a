"""An alert rule: a threshold with hysteresis on one quantity of some devices."""

from dataclasses import dataclass, replace

from meterd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Rule:
    """A threshold: exactly one of `equals`, `above` and `below`.

    `device` lists device ids, empty for all. With `clear_below` an `above` alert is resolved only
    below that value, with `clear_above` a `below` alert above it. `hold` ("for") is the seconds
    that the condition must hold before the alert fires, `clear_hold` ("clear_for") the seconds
    that it must be clear before it is resolved. `notify` names hooks. Limits are in the
    quantity's canonical unit. Raises ConfigError for none or several conditions.
    """

    name: str
    quantity: str
    device: tuple[str, ...] = ()
    equals: float | None = None
    above: float | None = None
    below: float | None = None
    clear_below: float | None = None
    clear_above: float | None = None
    hold: float = 0.0
    clear_hold: float = 0.0
    severity: str = "warning"
    notify: tuple[str, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if sum(limit is not None for limit in (self.equals, self.above, self.below)) != 1:
            text = f"rule {self.name}: give exactly one of equals, above and below"
            raise ConfigError(text)

    def watches(self, device: str) -> bool:
        return not self.device or device in self.device

    def with_renamed_device(self, old: str, new: str) -> "Rule":
        """The rule with a device's id replaced."""
        if old not in self.device:
            return self
        return replace(self, device=tuple(new if name == old else name for name in self.device))

    def holds(self, value: float) -> bool:
        """Whether the value meets the rule's condition."""
        if self.above is not None:
            return value > self.above
        if self.below is not None:
            return value < self.below
        return value == self.equals

    def clears(self, value: float) -> bool:
        """Whether the value clears a firing alert, hysteresis included."""
        if self.above is not None and self.clear_below is not None:
            return value < self.clear_below
        if self.below is not None and self.clear_above is not None:
            return value > self.clear_above
        return not self.holds(value)

    @property
    def condition(self) -> tuple[object, ...]:
        """What an alert's state depends on; a change of anything else keeps an active alert."""
        limits = (self.equals, self.above, self.below, self.clear_below, self.clear_above)
        return (self.quantity, *limits)
