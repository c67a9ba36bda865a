"""Client-side statement timeouts: a connection that does not answer is closed."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from meterd.errors import StoreCode, StoreError

_LOOK_EVERY = 0.2  # seconds between two looks while a statement is under way
_REMEMBERED = 20  # connections that were cut
_IDLE = 10.0  # seconds without any until the thread ends


@dataclass(slots=True)
class _Statement:
    raw: Any
    began: float
    deadline: float
    is_cut: bool = False


class StatementTimeout:
    """Over the statements of some connections, in a thread that lives while there are any.

    What a server's own timeout does not reach ends here, too: a commit that waits for a standby,
    a server that is stopped, a network that lost the connection without a word.
    """

    def __init__(self, label: str, seconds: float) -> None:
        """`seconds` is how long a statement may take; `label` names the store."""
        self._label = label
        self._seconds = seconds
        self._open: dict[int, _Statement] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._next = 0
        # Connections that were cut, and the numbers of their sessions, which may live on.
        self.cut: list[tuple[Any, int]] = []
        self.ended: tuple[int, ...] = ()  # sessions that were told to end

    def hurry(self, seconds: float) -> None:
        """From now on no statement takes longer, those that are under way included."""
        end = time.monotonic() + seconds
        with self._changed:
            self._seconds = min(self._seconds, seconds)
            for statement in self._open.values():
                statement.deadline = min(statement.deadline, end)
            self._changed.notify()

    def was_cut(self, raw: Any) -> bool:
        """Whether the connection was closed for a statement that took too long."""
        return any(connection is raw for connection, _ in self.cut)

    @contextmanager
    def bound(self, raw: Any, seconds: float | None = None) -> Iterator[None]:
        """Around what a driver does with its connection.

        Raises StoreError (unreachable) where it was cut.
        """
        statement, number = self._begin(raw, seconds)
        try:
            yield
        except Exception as error:
            if not statement.is_cut:
                raise
            took = time.monotonic() - statement.began
            text = (
                f"{self._label}: no answer for {took:.0f} s, so the connection was cut; look after "
                "the server, its standby and the network"
            )
            raise StoreError(text, code=StoreCode.UNREACHABLE) from error
        finally:
            with self._changed:
                del self._open[number]

    def _begin(self, raw: Any, seconds: float | None) -> tuple[_Statement, int]:
        began = time.monotonic()
        with self._changed:
            most = self._seconds if seconds is None else min(seconds, self._seconds)
            statement = _Statement(raw, began, began + most)
            number = self._next = self._next + 1
            self._open[number] = statement
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="meterd-watch", daemon=True)
                self._thread.start()
            elif len(self._open) == 1:
                self._changed.notify()
        return statement, number

    def _run(self) -> None:
        with self._changed:
            while self._open or self._changed.wait(_IDLE):
                now = time.monotonic()
                for statement in self._open.values():
                    if now >= statement.deadline and not statement.is_cut:
                        statement.is_cut = True
                        self.cut = [
                            *self.cut[-_REMEMBERED:],
                            (statement.raw, _session(statement.raw)),
                        ]
                        _cut(statement.raw)
                self._changed.wait(_LOOK_EVERY)
            self._thread = None


def _session(raw: Any) -> int:
    """The server's number of the session: PostgreSQL's process, MariaDB's thread; 0 where
    unknown.
    """
    with suppress(Exception):
        return int(raw.thread_id() if hasattr(raw, "thread_id") else raw.info.backend_pid)
    return 0


def _cut(raw: Any) -> None:
    """Both drivers find the connection closed then, wherever they wait."""
    with suppress(Exception):
        held = getattr(raw, "_sock", None) or raw
        copy = socket.socket(fileno=os.dup(held.fileno()))
        try:
            copy.shutdown(socket.SHUT_RDWR)
        finally:
            copy.close()
