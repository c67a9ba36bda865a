"""What a device's values are multiplied by and what is added to them: transformers, calibration."""

from dataclasses import dataclass

from meterd.model.quantity import Quantity, describe

KINDS = ("voltage", "current", "power", "energy")
_POWERS = ("W", "var", "VA")
_ENERGIES = ("Wh", "varh", "VAh")
# Measured by a transformer of their own, whatever the one of the phases is.
_OWN_TRANSFORMER = ("residual", "ground")


@dataclass(frozen=True, slots=True)
class Calibration:
    """`factors` are by kind of quantity (KINDS) or by quantity, which goes first; `offsets` by
    quantity, in its canonical unit, added after multiplying. Quantities are named as the device
    has them: its direction comes after.
    """

    factors: tuple[tuple[str, float], ...] = ()
    offsets: tuple[tuple[str, float], ...] = ()

    def factor(self, quantity: str) -> float:
        """What to multiply a value of this quantity by."""
        known = dict(self.factors)
        if quantity in known:
            return known[quantity]
        described = describe(quantity)
        return known.get(kind_of(described), 1.0) if described is not None else 1.0

    def offset(self, quantity: str) -> float:
        """What to add then."""
        return dict(self.offsets).get(quantity, 0.0)


NO_CALIBRATION = Calibration()


def kind_of(quantity: Quantity) -> str:
    """Which of KINDS a transformer would multiply it as; empty where none does."""
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
