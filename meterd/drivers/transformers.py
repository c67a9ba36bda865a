"""Current and voltage transformers in front of a meter: their ratios, and what may flow there."""

import math
import re
from typing import NamedTuple

_RATIO = re.compile(r"(\d+(?:\.\d+)?) ?[AV]? ?[/:] ?(\d+(?:\.\d+)?) ?[AV]?")
# V between lines where no voltage transformer is said: the highest low voltage in use (IEC 60038).
_LOW_VOLTAGE = 690.0
# Transformers and lines carry a fifth more than they are named for (IEC 61869-2: 120 %).
OVERLOAD = 1.2


class Ratio(NamedTuple):
    """A transformer: `text` as it is written, such as 200/5; the primary side, and the factor."""

    text: str
    primary: float
    factor: float

    @classmethod
    def of(cls, value: object) -> "Ratio":
        """From 200/5. Raises ValueError."""
        found = _RATIO.fullmatch(value.strip()) if isinstance(value, str) else None
        primary, secondary = (float(side) for side in found.groups()) if found else (0.0, 0.0)
        if not primary or not secondary:
            raise ValueError("must be a ratio such as 200/5, primary side first")
        return cls(f"{primary:g}/{secondary:g}", primary, primary / secondary)


def power_through(ct: Ratio, vt: Ratio | None) -> float:
    """The most that flows through three current transformers, in W."""
    volts = _LOW_VOLTAGE if vt is None else vt.primary
    return math.sqrt(3) * volts * ct.primary * OVERLOAD
