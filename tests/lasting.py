"""Programs that several tests use, and that whoever started them ends."""

PROCESSES: set[int] = set()
"""Their process ids: no test is blamed for leaving them behind."""
