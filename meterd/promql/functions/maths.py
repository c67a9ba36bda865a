"""Functions of one number: arithmetic, trigonometry, and the parts of a UTC date."""

from collections.abc import Callable

import numpy as np

from meterd.promql.source import Values

Change = Callable[[Values], Values]

# Beyond it (about the year 300 million) seconds since 1970 are no date that anybody reads.
_LAST = 1e16


def _sign(values: Values) -> Values:
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


MATHS: dict[str, Change] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "sgn": _sign,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "deg": lambda values: values * 180 / np.pi,
    "rad": lambda values: values * np.pi / 180,
}


def least(one: Values, other: Values) -> Values:
    """NaN beside anything but -Inf is NaN, as in Go."""
    lowest = (one == -np.inf) | (other == -np.inf)
    return np.where(lowest, -np.inf, np.minimum(one, other))


def greatest(one: Values, other: Values) -> Values:
    highest = (one == np.inf) | (other == np.inf)
    return np.where(highest, np.inf, np.maximum(one, other))


def rounded(values: Values, nearest: Values) -> Values:
    """To the nearest multiple, halves up."""
    inverse = 1.0 / nearest
    return np.asarray(np.floor(values * inverse + 0.5) / inverse)


def _dated(part: Callable[[np.ndarray], np.ndarray]) -> Change:
    """A part of the date, from whole seconds since 1970; NaN where there is no date."""

    def of(values: Values) -> Values:
        known = np.abs(values) < _LAST
        seconds = np.trunc(np.where(known, values, 0.0)).astype(np.int64)
        return np.where(known, part(seconds), np.nan)

    return of


def _civil(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Year, month and day; years are counted from March, so that the leap day comes last."""
    days = seconds // 86_400 + 719_468
    era, day = days // 146_097, days % 146_097
    of_era = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * of_era + of_era // 4 - of_era // 100)
    moon = (5 * of_year + 2) // 153
    month = np.where(moon < 10, moon + 3, moon - 9)
    return of_era + era * 400 + (month <= 2), month, of_year - (153 * moon + 2) // 5 + 1


def _leap(year: np.ndarray) -> np.ndarray:
    return np.asarray((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0)))


_LENGTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def _days_in_month(seconds: np.ndarray) -> np.ndarray:
    year, month, _ = _civil(seconds)
    return np.asarray(_LENGTHS[month] + ((month == 2) & _leap(year)))


def _day_of_year(seconds: np.ndarray) -> np.ndarray:
    year, month, day = _civil(seconds)
    return np.asarray(np.cumsum(_LENGTHS)[month - 1] + day + ((month > 2) & _leap(year)))


DATES: dict[str, Change] = {
    "minute": _dated(lambda seconds: seconds // 60 % 60),
    "hour": _dated(lambda seconds: seconds // 3_600 % 24),
    "day_of_week": _dated(lambda seconds: (seconds // 86_400 + 4) % 7),
    "day_of_month": _dated(lambda seconds: _civil(seconds)[2]),
    "day_of_year": _dated(_day_of_year),
    "days_in_month": _dated(_days_in_month),
    "month": _dated(lambda seconds: _civil(seconds)[1]),
    "year": _dated(lambda seconds: _civil(seconds)[0]),
}
