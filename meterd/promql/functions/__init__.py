"""PromQL's functions, grouped by the type of their argument; calls.py hands them arrays.

May import promql's modules below calls.py.
Decision: docs/decisions/0012.
"""

from meterd.promql.functions import maths, ranged

# Functions of more than one vector or one range: calls.py has a function for each.
VECTOR_FUNCTIONS = frozenset(
    [
        "absent",
        "absent_over_time",
        "clamp",
        "clamp_max",
        "clamp_min",
        "histogram_fraction",
        "histogram_quantile",
        "label_join",
        "label_replace",
        "pi",
        "round",
        "scalar",
        "sort",
        "sort_by_label",
        "sort_by_label_desc",
        "sort_desc",
        "time",
        "timestamp",
        "vector",
    ]
)
# Functions of native histograms ignore float samples, so their results are empty.
NATIVE = frozenset(
    ["histogram_avg", "histogram_count", "histogram_stddev", "histogram_stdvar", "histogram_sum"]
)


def is_function(name: str) -> bool:
    tables = (maths.MATHS, maths.DATES, ranged.RANGED, VECTOR_FUNCTIONS, NATIVE)
    return any(name in table for table in tables)
