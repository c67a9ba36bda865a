"""Pool of idle read connections: a new SQLite connection reads the schema first."""

import threading

from meterd.store.db.connections import Opened
from meterd.store.db.file_identity import Inode

Place = Inode | None
"""Of a database's file: a store put aside is another one under the same name."""


class IdleConnections:
    """Thread-safe. Idle connections have no transaction, so they block nobody."""

    def __init__(self, most: int) -> None:
        self._guard = threading.Lock()
        self._most = most
        self._waiting: list[tuple[Place, Opened]] = []

    def take(self, place: Place) -> Opened | None:
        """One that was opened at this place, if any waits."""
        with self._guard:
            waiting, self._waiting = self._waiting, []
            fit = [idle for at, idle in waiting if at == place and place is not None]
            chosen = fit.pop() if fit else None
            self._waiting = [(place, idle) for idle in fit]
        for at, idle in waiting:
            if at != place or place is None:
                idle.close()
        return chosen

    def give(self, place: Place, opened: Opened) -> None:
        """Back after use, or for the first time."""
        with self._guard:
            if room := place is not None and len(self._waiting) < self._most:
                self._waiting.append((place, opened))
        if not room:
            opened.close()

    def close(self) -> None:
        """What waits is closed, and nothing waits any more."""
        with self._guard:
            self._most = 0
        self.clear()

    def clear(self) -> None:
        """What waits is closed."""
        with self._guard:
            waiting, self._waiting = self._waiting, []
        for _, idle in waiting:
            idle.close()
