"""Units that devices speak, and the factor to the unit the house keeps."""

from meterd.model.quantity import UNIT_WORDS

_PREFIXES = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_PREFIXED = ("V", "A", "W", "var", "VA", "Hz", "Wh", "varh", "VAh", "s")

# Factors are powers of ten kept exact where floats can: 0.1 is a division by 10.
TO_BASE: dict[str, tuple[str, float]] = {
    prefix + unit: (unit, factor) for unit in _PREFIXED for prefix, factor in _PREFIXES.items()
} | {
    "%": ("%", 1.0),
    "‰": ("%", 0.1),
    "°C": ("°C", 1.0),
    "°": ("°", 1.0),
    "1": ("1", 1.0),
    "": ("1", 1.0),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
}

# Shares of one: percent and per mille.
_SHARES = {"1": 1.0, "": 1.0, "%": 1e-2, "‰": 1e-3}
BASE_UNITS = tuple(UNIT_WORDS)


def factor(unit: str, base: str) -> float | None:
    """What to multiply a value in `unit` by to get `base`; None where they do not convert."""
    if unit == base:
        return 1.0
    if unit in _SHARES and base in _SHARES:
        return _SHARES[unit] / _SHARES[base]
    known, scale = TO_BASE.get(unit, (unit, 1.0))
    return scale if known == base else None
