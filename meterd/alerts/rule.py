"""One rule: what it watches, and when it warns."""

from dataclasses import dataclass, replace

from meterd.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Rule:
    """A threshold: exactly one of `equals`, `above` and `below`.

    `device` lists those it watches, empty for every one. With `clear_below` an `above` alert
    ends only below that value, with `clear_above` a `below` alert above it. `hold` ("for") is
    how many seconds the condition must hold before it fires, `clear_hold` ("clear_for") how many
    it must have been clear before it ends. `notify` names hooks.
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

    def renamed(self, old: str, new: str) -> "Rule":
        """The same rule, with a device called otherwise."""
        if old not in self.device:
            return self
        return replace(self, device=tuple(new if one == old else one for one in self.device))

    def holds(self, value: float) -> bool:
        """Whether the value is what the rule warns of."""
        if self.above is not None:
            return value > self.above
        if self.below is not None:
            return value < self.below
        return value == self.equals

    def clears(self, value: float) -> bool:
        """Whether the value ends an alert that fires."""
        if self.above is not None and self.clear_below is not None:
            return value < self.clear_below
        if self.below is not None and self.clear_above is not None:
            return value > self.clear_above
        return not self.holds(value)

    @property
    def condition(self) -> tuple[object, ...]:
        """What an alert's state hangs on; the rest may change under a running alert."""
        limits = (self.equals, self.above, self.below, self.clear_below, self.clear_above)
        return (self.quantity, *limits)
