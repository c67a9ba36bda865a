"""Reads the registers that a test writes to a server's stdin."""

import sys
from collections.abc import Iterator


def given() -> Iterator[tuple[int, int, list[int]]]:
    """Function, address and words of each run."""
    for line in sys.stdin:
        function, address, *words = line.split()
        yield int(function), int(address), [int(word, 16) for word in words]
