"""Run the measurements that are named, or the quick ones, and print the table."""

import platform
import sys
from importlib import import_module

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
)
# These need the data set, and take some fifteen minutes.
STORE = ("codec", "store", "flash", "history")


def main() -> None:
    names = sys.argv[1:] or QUICK
    if unknown := set(names) - {*QUICK, *STORE}:
        sys.exit(f"no part {' '.join(sorted(unknown))}: there are {' '.join((*QUICK, *STORE))}")
    parts = [import_module(f"bench.{name}") for name in names]
    figures = [figure for part in parts for figure in part.measure()]
    lines = [("what", "measured", "goal", "verdict"), *(figure.line() for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    print(f"Python {platform.python_version()}, {platform.machine()}", file=sys.stderr)
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    main()
