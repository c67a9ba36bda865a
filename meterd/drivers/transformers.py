"""Current and voltage transformers of a meter: their ratios, and the maximum power through them."""

import math
import re
from typing import NamedTuple

_RATIO = re.compile(r"(\d+(?:\.\d+)?) ?[AV]? ?[/:] ?(\d+(?:\.\d+)?) ?[AV]?")
# V between lines without a voltage transformer: the highest low voltage in use (IEC 60038).
_LOW_VOLTAGE_V = 690.0
# Transformers and lines carry 120 % of their rating (IEC 61869-2).
OVERLOAD_FACTOR = 1.2


class Ratio(NamedTuple):
    """A transformer ratio: `text` such as 200/5, the primary value, and the factor."""

    text: str
    primary: float
    factor: float

    @classmethod
    def of(cls, value: object) -> "Ratio":
        """Parses 200/5. Raises ValueError."""
        match = _RATIO.fullmatch(value.strip()) if isinstance(value, str) else None
        primary, secondary = (float(side) for side in match.groups()) if match else (0.0, 0.0)
        if not primary or not secondary:
            raise ValueError("must be a ratio such as 200/5, primary side first")
        return cls(f"{primary:g}/{secondary:g}", primary, primary / secondary)


def power_through(ct: Ratio, vt: Ratio | None) -> float:
    """The maximum power through three current transformers, in W."""
    volts = _LOW_VOLTAGE_V if vt is None else vt.primary
    return math.sqrt(3) * volts * ct.primary * OVERLOAD_FACTOR
