"""Factors and offsets applied to a device's values: transformer ratios and calibration."""

from dataclasses import dataclass

from meterd.model.quantity import Quantity, describe

KINDS = ("voltage", "current", "power", "energy")
_POWERS = ("W", "var", "VA")
_ENERGIES = ("Wh", "varh", "VAh")
# Measured by separate transformers: the ratio of the phases' does not apply.
_OWN_TRANSFORMER = ("residual", "ground")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Factors by kind of quantity (KINDS) or by quantity, which takes precedence; offsets by
    quantity, in its canonical unit, added after multiplication. Names are those of the device:
    the device's `direction` setting is applied afterwards.
    """

    factors: tuple[tuple[str, float], ...] = ()
    offsets: tuple[tuple[str, float], ...] = ()

    def factor(self, quantity: str) -> float:
        """The factor of a quantity's values; 1.0 where none is set."""
        factors = dict(self.factors)
        if quantity in factors:
            return factors[quantity]
        description = describe(quantity)
        return factors.get(kind_of(description), 1.0) if description is not None else 1.0

    def offset(self, quantity: str) -> float:
        """The offset of a quantity, added after multiplication; 0.0 where none is set."""
        return dict(self.offsets).get(quantity, 0.0)


NO_CALIBRATION = Calibration()


def kind_of(quantity: Quantity) -> str:
    """The quantity's kind (KINDS) for transformer ratios; "" where none applies."""
    parts = quantity.name.removeprefix("guarded.").removeprefix("demand.").split(".")
    match parts[0], quantity.unit:
        case "voltage", "V":
            return "voltage"
        case "current", "A":
            return "current" if not set(parts) & {*_OWN_TRANSFORMER} else ""
        case (("active_power" | "reactive_power" | "apparent_power"), _):
            return "power" if quantity.unit in _POWERS else ""
        case (("active_energy" | "reactive_energy" | "apparent_energy"), _):
            return "energy" if quantity.unit in _ENERGIES else ""
    return ""
