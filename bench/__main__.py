"""Run every measurement and print the table."""

import platform
import sys

from bench import fleet, plans, processes, samples, serialbus, transactions, values


def main() -> None:
    parts = (transactions, values, samples, plans, serialbus, fleet, processes)
    figures = [figure for part in parts for figure in part.measure()]
    lines = [("what", "measured", "goal", "verdict"), *(figure.line() for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    print(f"Python {platform.python_version()}, {platform.machine()}", file=sys.stderr)
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


main()
