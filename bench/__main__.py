"""Run the measurements that are named, or the quick ones, and print the table."""

import platform
import sys
from importlib import import_module

from bench.report import show

QUICK = (
    "transactions",
    "values",
    "samples",
    "plans",
    "serialbus",
    "fleet",
    "promql",
    "serve",
    "streams",
    "processes",
    "restart",
)
# These need the data set, and take half an hour.
STORE = ("codec", "store", "flash", "history", "promyear")


def main() -> None:
    names = sys.argv[1:] or QUICK
    if unknown := set(names) - {*QUICK, *STORE}:
        sys.exit(f"no part {' '.join(sorted(unknown))}: there are {' '.join((*QUICK, *STORE))}")
    parts = [import_module(f"bench.{name}") for name in names]
    figures = [figure for part in parts for figure in part.measure()]
    print(f"Python {platform.python_version()}, {platform.machine()}", file=sys.stderr)
    show(figures)


if __name__ == "__main__":
    main()
