"""Elementwise functions: arithmetic, trigonometry, rounding, and parts of UTC dates."""

from collections.abc import Callable

import numpy as np

from meterd.promql.source import Values

NumberFunction = Callable[[Values], Values]

# Unix seconds beyond it (about the year 300 million) have no date: the result is NaN.
_LAST_DATE_S = 1e16


def _sign(values: Values) -> Values:
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


MATHS: dict[str, NumberFunction] = {
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


def minimum(left: Values, right: Values) -> Values:
    """Go's math.Min: -Inf wins over NaN, NaN over anything else."""
    lowest = (left == -np.inf) | (right == -np.inf)
    return np.where(lowest, -np.inf, np.minimum(left, right))


def maximum(left: Values, right: Values) -> Values:
    highest = (left == np.inf) | (right == np.inf)
    return np.where(highest, np.inf, np.maximum(left, right))


def round_to(values: Values, nearest: Values) -> Values:
    """Rounds to the nearest multiple, halves up."""
    inverse = 1.0 / nearest
    return np.asarray(np.floor(values * inverse + 0.5) / inverse)


def _date_part(part: Callable[[np.ndarray], np.ndarray]) -> NumberFunction:
    """A function of Unix seconds from one of whole seconds (int64); NaN beyond _LAST_DATE_S."""

    def of(values: Values) -> Values:
        is_date = np.abs(values) < _LAST_DATE_S
        seconds = np.trunc(np.where(is_date, values, 0.0)).astype(np.int64)
        return np.where(is_date, part(seconds), np.nan)

    return of


def _civil(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Year, month and day of Unix seconds (Hinnant's civil_from_days: years start in March)."""
    days = seconds // 86_400 + 719_468
    era, day = days // 146_097, days % 146_097
    of_era = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * of_era + of_era // 4 - of_era // 100)
    moon = (5 * of_year + 2) // 153
    month = np.where(moon < 10, moon + 3, moon - 9)
    return of_era + era * 400 + (month <= 2), month, of_year - (153 * moon + 2) // 5 + 1


def _leap(year: np.ndarray) -> np.ndarray:
    return np.asarray((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0)))


_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def _days_in_month(seconds: np.ndarray) -> np.ndarray:
    year, month, _ = _civil(seconds)
    return np.asarray(_MONTH_DAYS[month] + ((month == 2) & _leap(year)))


def _day_of_year(seconds: np.ndarray) -> np.ndarray:
    year, month, day = _civil(seconds)
    return np.asarray(np.cumsum(_MONTH_DAYS)[month - 1] + day + ((month > 2) & _leap(year)))


DATES: dict[str, NumberFunction] = {
    "minute": _date_part(lambda seconds: seconds // 60 % 60),
    "hour": _date_part(lambda seconds: seconds // 3_600 % 24),
    "day_of_week": _date_part(lambda seconds: (seconds // 86_400 + 4) % 7),
    "day_of_month": _date_part(lambda seconds: _civil(seconds)[2]),
    "day_of_year": _date_part(_day_of_year),
    "days_in_month": _date_part(_days_in_month),
    "month": _date_part(lambda seconds: _civil(seconds)[1]),
    "year": _date_part(lambda seconds: _civil(seconds)[0]),
}
