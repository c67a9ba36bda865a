"""Measures meterd on this machine: CPU time, bytes and memory, as ratios to peers in one run.

`make bench` runs all of it and prints a table. Nothing here is asserted: a timed test fails
on a busy machine and proves nothing on an idle one.
"""
