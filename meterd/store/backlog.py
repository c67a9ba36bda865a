"""The polls that no commit has confirmed yet: waiting, or in the batch being written."""

import threading
from collections import deque
from itertools import islice

from meterd.model.sample import Poll


class Backlog:
    """Handed over between the event loop and the writer's thread.

    Its lock is only ever held to move references, never while anything is written.
    Holds at most `limit` polls; then the oldest that waits makes room and is counted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._guard = threading.Lock()
        self._waiting: deque[Poll] = deque()
        self._batch: tuple[Poll, ...] = ()
        self._samples = 0
        self._dropped = 0

    def add(self, poll: Poll) -> None:
        with self._guard:
            self._waiting.append(poll)
            self._samples += len(poll.values)
            if len(self._waiting) + len(self._batch) > self._limit:
                self._shorten()

    def _shorten(self) -> None:
        while self._waiting and len(self._waiting) + len(self._batch) > self._limit:
            gone = len(self._waiting.popleft().values)
            self._samples -= gone
            self._dropped += gone

    def start(self, most: int) -> tuple[Poll, ...]:
        """The oldest polls, as the batch being written; `confirm` or `give_back` ends it."""
        with self._guard:
            self._batch = tuple(islice(self._waiting, most))
            for _ in self._batch:
                self._waiting.popleft()
            return self._batch

    def confirm(self) -> int:
        """The batch is kept for good; returns its samples."""
        with self._guard:
            samples = sum(len(poll.values) for poll in self._batch)
            self._samples -= samples
            self._batch = ()
            return samples

    def give_back(self) -> None:
        """The batch could not be written: it waits again, as the oldest."""
        with self._guard:
            self._waiting.extendleft(reversed(self._batch))
            self._batch = ()
            self._shorten()

    def polls(self) -> tuple[Poll, ...]:
        """Everything that is not confirmed, in the order it was taken."""
        with self._guard:
            return (*self._batch, *self._waiting)

    def __len__(self) -> int:
        """Polls that wait, the batch apart."""
        return len(self._waiting)

    @property
    def samples(self) -> int:
        """Samples that are not confirmed."""
        return self._samples

    @property
    def dropped(self) -> int:
        """Samples that had to make room, since the start."""
        return self._dropped
