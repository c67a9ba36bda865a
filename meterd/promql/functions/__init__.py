"""Functions of PromQL, in files by what they work on; the evaluator hands them arrays.

May import the plain modules of promql (vectors, window, prefix_sums, stats), not the evaluator.
Decision: docs/decisions/0012.
"""

from meterd.promql.functions import maths, ranged

# What needs more than one vector or one range: the evaluator has a method for each.
SHAPED = frozenset(
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
# About native histograms: what is no histogram is left out of the answer, so it stays empty.
NATIVE = frozenset(
    ["histogram_avg", "histogram_count", "histogram_stddev", "histogram_stdvar", "histogram_sum"]
)


def known(name: str) -> bool:
    tables = (maths.MATHS, maths.DATES, ranged.RANGED, SHAPED, NATIVE)
    return any(name in table for table in tables)
