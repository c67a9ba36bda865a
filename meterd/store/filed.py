"""The journal in a file of its own (`store.journal: file`): a commit writes what it has to say.

The file has its blocks from the start and is written in place (records.Halves), so a commit costs
flash a page or two. Each record tells the names behind its numbers that the half has not told
before, so the file means the same beside any database:

    | bytes of the names, 4 | names, JSON deflated, or nothing | polls, as in a journal row |
"""

import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from meterd.errors import StoreError
from meterd.model.sample import Poll
from meterd.store import identity
from meterd.store.catalog import Catalog, Name
from meterd.store.connections import Database
from meterd.store.corrupt import DamageError, aside, keep_body
from meterd.store.format import journal
from meterd.store.format.columns import Span
from meterd.store.hot import Hot
from meterd.store.identity import GoneError, Inode
from meterd.store.ledger import Ledger
from meterd.store.polls import Polls
from meterd.store.records import Halves, mapped, read_halves

SIZE = 16 << 20  # bytes of a new file; an hour of 4,000 series at 10 s takes a quarter of it
_LENGTH = 4

_log = logging.getLogger(__name__)


def place(database: Path) -> Path:
    """The file beside a database."""
    return database.with_name(f"{database.name}.journal")


def beside(database: Database, catalog: Catalog) -> "Filed":
    """Raises StoreError where there is no place for such a file."""
    if database.path is None:
        text = "store.journal: file is for SQLite; leave it out where a server keeps the store"
        raise StoreError(text, code="unavailable")
    return Filed(place(database.path), catalog)


class Filed:
    """Lives in the writer's thread. Its methods raise StoreError."""

    def __init__(self, path: Path, catalog: Catalog, size: int = SIZE) -> None:
        self._path = path
        self._catalog = catalog
        self._size = size
        self._halves: Halves | None = None
        self._known: Inode | None = None  # of the file that was opened, after it is closed, too
        self._told: set[int] = set()
        self._digits: dict[int, int] = {}
        # Something in it is in blocks, too, or it is full: the other half is due.
        self.stale = False

    def close(self) -> None:
        """It is opened again by whatever comes next."""
        if self._halves is not None:
            self._halves.close()
            self._halves = None

    def _open(self) -> Halves:
        if self._halves is None:
            self.check()
            self._halves = Halves(self._path, self._size)
            self._known = self._halves.inode
        return self._halves

    def check(self) -> None:
        """Raises GoneError where the file is no longer the one that was opened."""
        if self._known is not None and (told := identity.changed(self._path, self._known)):
            raise GoneError(told)

    def forget(self) -> None:
        """What it has told, under numbers of another database; another file is put aside."""
        self.close()
        self._told, self._digits, self.stale = set(), {}, True
        if self._known is not None and identity.inode(self._path) not in (None, self._known):
            with mapped(self._path):
                target = aside(self._path, "stray")
                self._path.rename(target)
            _log.error("%s was none of this store's; it is kept as %s", self._path, target)
        self._known = None

    def polls(self) -> Iterator[Poll]:
        """What the file holds, oldest first. What it told under other numbers is told again."""
        names: dict[int, Name] = {}
        for number, record in enumerate(self._open().bodies()):
            try:
                found = list(_polls(record, names))
            except StoreError as error:
                # Its checksum is right, so no second look would help; the rest is as good as ever.
                damaged = DamageError("journal-file", number, str(error))
                keep_body(self._path.parent, damaged, record)
                self.stale = True
                continue
            yield from found
        known = {number: one.name for number, one in self._catalog.by_id.items()}
        if any(known.get(number, name) != name for number, name in names.items()):
            self.stale = True
        self._told = {number for number, name in names.items() if known.get(number) == name}

    def commit(
        self, ledger: Ledger, spans: Sequence[Span], memos: Mapping[str, str], *, plain: bool
    ) -> int | None:
        """Like Ledger.commit, which is asked where the file is too small."""
        if memos or plain or self._catalog.fresh:
            # Names and memos first: the database never lacks what a record of the file uses.
            ledger.commit(spans, memos, plain=plain, filed=True)
        else:
            ledger.hold()
        if not spans or self._open().append(self._record(spans)):
            self.check()
            self._told |= _numbers(spans)
            return None
        self.stale = True
        return ledger.commit(spans, {})

    def restart(self, spans: Sequence[Span]) -> None:
        """The other half takes over, with these polls only: all that no block and no row has."""
        told, self._told = self._told, set()
        try:
            records = [self._record(spans)] if spans else []
            done = self._open().restart(records)
        except BaseException:
            self._told = told
            raise
        self._told = _numbers(spans) if done else told
        self.stale = False

    def _record(self, spans: Sequence[Span]) -> bytes:
        new = sorted(_numbers(spans) - self._told)
        listed = [[number, *self._catalog.by_id[number].name] for number in new]
        names = zlib.compress(json.dumps(listed).encode()) if new else b""
        body = journal.encode(spans, self._digits)
        return len(names).to_bytes(_LENGTH, "little") + names + body


def read(path: Path) -> list[Poll]:
    """The polls of a file that somebody else writes; none where there is no file.

    Raises StoreError.
    """
    return told(read_halves(path))


def records(database: Database) -> list[bytes]:
    """What the file beside a database holds now, whoever writes it. Raises StoreError."""
    return [] if database.path is None else read_halves(place(database.path))


def told(some: Iterable[bytes]) -> list[Poll]:
    """The polls of a file's records. Raises StoreError."""
    names: dict[int, Name] = {}
    return [poll for record in some for poll in _polls(record, names)]


def left(database: Path, mine: Filed | None) -> Hot:
    """The same beside a database, in memory; `mine` where it is the journal. Raises StoreError."""
    found = Hot()
    for poll in read(place(database)) if mine is None else mine.polls():
        found.take(poll)
    return found


def _numbers(spans: Iterable[Span]) -> set[int]:
    return {column.series for span in spans for column in span.columns}


def _polls(record: bytes, names: dict[int, Name]) -> Iterator[Poll]:
    """Of one record; `names` are those told before, and get what it tells."""
    end = _LENGTH + int.from_bytes(record[:_LENGTH], "little")
    for number, device, quantity, unit in _listed(record[_LENGTH:end]):
        names[number] = device, quantity, unit
    polls = Polls(names.__getitem__)
    spans = [span for span in journal.decode(record[end:]) if span.columns]
    if strange := sorted(_numbers(spans) - names.keys()):
        text = f"a record of the journal file has series {strange[0]}, which it does not name"
        raise StoreError(text, code="corrupt")
    for span in spans:
        yield from polls.of(span, names[span.columns[0].series][0])


def _listed(told: bytes) -> list[tuple[int, str, str, str]]:
    try:
        listed = json.loads(zlib.decompress(told)) if told else []
        return [(int(number), str(a), str(b), str(c)) for number, a, b, c in listed]
    except (TypeError, ValueError, zlib.error) as error:
        text = f"a record of the journal file is damaged: {error}"
        raise StoreError(text, code="corrupt") from error
