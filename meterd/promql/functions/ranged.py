"""The functions of a range vector, by their PromQL name."""

from collections.abc import Callable

from meterd.promql.functions import over_time, rates
from meterd.promql.window import Window

# (window, scalar arguments in the order of the call) -> values and presence at each step
RANGED: dict[str, Callable[..., over_time.WindowValues]] = {
    "rate": rates.rate,
    "increase": rates.increase,
    "delta": rates.delta,
    "irate": rates.irate,
    "idelta": rates.idelta,
    "deriv": rates.deriv,
    "predict_linear": rates.predict_linear,
    "changes": over_time.changes,
    "resets": over_time.resets,
    "double_exponential_smoothing": over_time.double_exponential_smoothing,
    "sum_over_time": over_time.sum_,
    "avg_over_time": over_time.avg,
    "min_over_time": over_time.min_,
    "max_over_time": over_time.max_,
    "count_over_time": over_time.count,
    "stddev_over_time": over_time.stddev,
    "stdvar_over_time": over_time.stdvar,
    "mad_over_time": over_time.mad,
    "quantile_over_time": over_time.quantile,
    "last_over_time": over_time.last,
    "first_over_time": over_time.first,
    "present_over_time": over_time.present,
    "ts_of_min_over_time": over_time.ts_of_min,
    "ts_of_max_over_time": over_time.ts_of_max,
    "ts_of_last_over_time": over_time.ts_of_last,
    "ts_of_first_over_time": over_time.ts_of_first,
}
KEEP_NAME = frozenset(("last_over_time", "first_over_time"))
COUNTERS = frozenset(("rate", "increase"))

STACKED = frozenset(("rate", "increase", "delta"))
"""Functions that take several series at once, stacked (window.py)."""

FOLDED = {
    "avg_over_time": "avg",
    "sum_over_time": "sum",
    "min_over_time": "min",
    "max_over_time": "max",
    "count_over_time": "count",
    "present_over_time": "present",
}
"""Functions that a source may fold without its samples being read, and its name for each."""

__all__ = ["COUNTERS", "FOLDED", "KEEP_NAME", "RANGED", "STACKED", "Window"]
