"""The file WAL (`store.journal: file`): commits are records of one file of fixed size.

The file has its blocks from the start and is written in place (record_log.AlternatingLog), so a
commit costs flash a page or two. Each record tells the names behind its numbers that the half has
not told before, so the file means the same beside any database:

    | bytes of the names, 4 | CRC-32 of all names, 4 | names, JSON deflated | polls, as in a row |

Where a damaged record told names, those of the database do for the ones behind it, if their
checksum is that of the record. The uppermost bit of the length says that there is one: records
of an earlier meterd have none.
"""

import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Poll
from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk
from meterd.store.db import file_identity
from meterd.store.db.connections import Database
from meterd.store.db.durable_files import as_store_errors, fsync_folder
from meterd.store.db.file_identity import GoneError, Inode
from meterd.store.db.quarantine import DamageError, quarantine_body, unused_name
from meterd.store.head.catalog import Catalog, Name
from meterd.store.head.head import Head
from meterd.store.head.replay import PollDecoder
from meterd.store.wal.record_log import AlternatingLog, generation_of, read_halves
from meterd.store.wal.scanner import DamagedRange, Record

MARK = "store.journal"  # a memo of the database, see `torn`
HEADLESS = -1
SIZE = 16 << 20  # bytes of a new file; an hour of 4,000 series at 10 s takes a quarter of it
_LENGTH = 4
_CHECKED = 1 << 31

Lost = Callable[[DamageError, bytes | None], None]
"""Is told what cannot be read, and its bytes; None where nothing is lost by it."""

_log = logging.getLogger(__name__)


def path_beside(database: Path) -> Path:
    """The file beside a database."""
    return database.with_name(f"{database.name}.journal")


def open_beside(database: Database, catalog: Catalog, lost: Lost | None = None) -> "FileWal":
    """The WAL file of a database. Raises StoreError for a database that is no file."""
    if database.path is None:
        text = "store.journal: file is for SQLite; leave it out where a server keeps the store"
        raise StoreError(text, code=StoreCode.UNAVAILABLE)
    return FileWal(path_beside(database.path), catalog, lost)


class TableWal(Protocol):
    """The WAL in a table of the database, for what the file does not take (StoreSession)."""

    def commit(
        self,
        chunks: Sequence[Chunk],
        memos: Mapping[str, str],
        *,
        plain: bool = False,
        in_file: bool = False,
    ) -> int | None: ...

    def hold(self) -> None: ...


class FileWal:
    """Lives in the store's thread. Its methods raise StoreError."""

    def __init__(self, path: Path, catalog: Catalog, lost: Lost | None, size: int = SIZE) -> None:
        """`lost` gets what cannot be read; without it that is logged and kept in a file."""
        self._path = path
        self._catalog = catalog
        self._size = size
        self._lost = lost or partial(quarantine_body, path.parent)
        self._halves: AlternatingLog | None = None
        self._known: Inode | None = None  # of the file that was opened, after it is closed, too
        self._told: set[int] = set()
        self._digits: dict[int, int] = {}
        self._checked: tuple[set[int], int] = set(), 0
        # Something in it is in blocks, too, or it is full: the other half is due.
        self.stale = False

    def close(self) -> None:
        """Closes the file; the next call opens it again."""
        # The numbers of another database may mean others.
        self._checked = set(), 0
        if self._halves is not None:
            self._halves.close()
            self._halves = None

    def _open(self) -> AlternatingLog:
        if self._halves is None:
            self.check()
            try:
                self._halves = AlternatingLog(self._path, self._size)
            except StoreError as error:
                if error.code != StoreCode.CORRUPT:
                    raise
                self._begin_anew(error)
                self._halves = AlternatingLog(self._path, self._size)
            self._known = self._halves.inode
        return self._halves

    def _begin_anew(self, error: StoreError) -> None:
        target = unused_name(self._path, "damaged")
        with as_store_errors(self._path):
            self._path.rename(target)
            fsync_folder(self._path.parent)
        self._told, self._known = set(), None
        text = f"{error}; nothing of it can be read, and it is kept as {target}"
        self._lost(DamageError("journal-file", "head", text), None)

    def check(self) -> None:
        """Raises GoneError where the file is no longer the one that was opened."""
        if self._known is not None and (text := file_identity.changed(self._path, self._known)):
            raise GoneError(text)

    def forget(self) -> None:
        """Forgets which names the file has, since another database numbers differently; a foreign
        file is set aside.
        """
        self.close()
        self._told, self._digits, self.stale = set(), {}, True
        if self._known is not None and file_identity.inode(self._path) not in (None, self._known):
            with as_store_errors(self._path):
                target = unused_name(self._path, "stray")
                self._path.rename(target)
            _log.error("%s was none of this store's; it is kept as %s", self._path, target)
        self._known = None

    def polls(self) -> Iterator[Poll]:
        """The polls in the file, oldest first. Names with changed numbers are written again with
        the next record.
        """
        halves = self._open()
        here = catalog_names(self._catalog)
        contents = decode_records(halves.found(), here, halves.generation)
        for damaged, raw in contents.damages:
            self._lost(damaged, raw)
        self.stale = self.stale or bool(contents.damages)
        yield from contents.polls
        names = contents.names
        if any(here.get(number, name) != name for number, name in names.items()):
            self.stale = True
        self._told = {number for number, name in names.items() if here.get(number) == name}

    @property
    def generation(self) -> int:
        return self._open().generation

    def commit(
        self, session: TableWal, chunks: Sequence[Chunk], memos: Mapping[str, str], *, plain: bool
    ) -> int | None:
        """As `StoreSession.commit`, to which it turns where the file is too small."""
        if memos or plain or self._catalog.fresh:
            # Names and memos first: the database never lacks what a record of the file uses.
            session.commit(chunks, memos, plain=plain, in_file=True)
        else:
            session.hold()
        if not chunks or self._open().append(self._record(chunks)):
            self.check()
            self._told |= _numbers(chunks)
            return None
        self.stale = True
        return session.commit(chunks, {})

    def restart(self, chunks: Sequence[Chunk]) -> None:
        """The other half takes over, with these polls only: all that no block and no row has."""
        named, self._told = self._told, set()
        try:
            records = [self._record(chunks)] if chunks else []
            done = self._open().restart(records)
        except BaseException:
            self._told = named
            raise
        self._told = _numbers(chunks) if done else named
        self.stale = False

    def _record(self, chunks: Sequence[Chunk]) -> bytes:
        numbers = _numbers(chunks)
        if numbers != self._checked[0]:
            self._checked = numbers, _check(numbers, catalog_names(self._catalog))
        new = sorted(numbers - self._told)
        listed = [[number, *self._catalog.by_id[number].name] for number in new]
        names = zlib.compress(json.dumps(listed).encode()) if new else b""
        length = (len(names) | _CHECKED).to_bytes(_LENGTH, "little")
        check = self._checked[1].to_bytes(_LENGTH, "little")
        return length + check + names + commit_record.encode(chunks, self._digits)


def generation_memo(generation: int) -> str:
    """The memo MARK of a database that has all that halves before this generation held."""
    return json.dumps({"generation": generation})


def mismatch(body: object, before: int | None, after: int | None) -> str:
    """In words, where a database with that memo and a file are of different moments.

    `before` and `after` are the file's generation (None: there is none) before and after the
    database was looked at: its writer may go on. Before the file goes on with its next half, the
    database says so.
    """
    try:
        marked = int(json.loads(body)["generation"]) if isinstance(body, str) else None
    except (TypeError, ValueError, LookupError):
        marked = None
    if marked is None or HEADLESS in (before, after):
        return ""
    if before is None or after is None:
        return "the journal file is missing: what was polled since the last full hours was in it"
    if before > marked:
        return (
            "the journal file is newer than the database, which lacks what was moved from one to "
            f"the other in between ({before - marked} times, an hour each as a rule)"
        )
    if after < marked - 1:
        return (
            "the journal file is older than the database: what was polled between both and is in "
            "no block is missing"
        )
    return ""


def generation(database: Database) -> int | None:
    """The generation of the file beside a database: None where there is no file, HEADLESS where it
    has no header.

    Raises StoreError.
    """
    try:
        return None if database.path is None else generation_of(path_beside(database.path))
    except StoreError as error:
        if error.code != StoreCode.CORRUPT:
            raise
        return HEADLESS  # who reads its records tells of it


@dataclass(frozen=True, slots=True)
class FileWalContents:
    """A WAL file's polls, oldest first; its damaged ranges with their bytes; its names."""

    polls: list[Poll]
    damages: list[tuple[DamageError, bytes | None]]
    names: dict[int, Name]


def read(path: Path, catalog: Catalog | None = None) -> FileWalContents:
    """The content of a file that another process writes; empty where there is no file.

    `catalog` is that of the database beside it. Raises StoreError.
    """
    return decode_records(read_halves(path), catalog_names(catalog))


def read_records(database: Database) -> list[Record | DamagedRange]:
    """The records of the file beside a database now, whoever writes it. Raises StoreError."""
    return [] if database.path is None else read_halves(path_beside(database.path))


def decode_records(
    some: Iterable[Record | DamagedRange], here: Mapping[int, Name], generation: int = 0
) -> FileWalContents:
    """What records hold. `here` are the names that the database has."""
    contents = FileWalContents([], [], {})
    places: list[tuple[Record | DamagedRange, str, int]] = []
    careful = False
    for item in some:
        if isinstance(item, DamagedRange):
            careful = careful or item.first > 0
            places.append((item, str(item), len(contents.polls)))
            continue
        try:
            contents.polls.extend(
                list(_polls(item.body, _RecordNames(contents.names, here, careful)))
            )
        except StoreError as error:
            # Its checksum is right, so no second look would help; the rest is as good as ever.
            places.append((item, f"record {item.number}: {error}", len(contents.polls)))
            careful = True
    for item, text, at in places:
        contents.damages.append(_damage(item, text + _between(contents.polls, at), generation))
    return contents


def _damage(
    item: Record | DamagedRange, text: str, generation: int
) -> tuple[DamageError, bytes | None]:
    which = f"{generation}-" if generation else ""
    if isinstance(item, Record):
        return DamageError("journal-file", f"{which}{item.number}", text), item.body
    if not item.first:
        text = f"{item}; it is there again, and nothing is lost"
        return DamageError("journal-file", f"{which}head", text), None
    return DamageError("journal-file", f"{which}{item.first}", text), item.raw


def _between(polls: Sequence[Poll], at: int) -> str:
    """When lost polls were made, as far as their neighbours show."""
    before, after = polls[:at][-1:], polls[at:][:1]
    times = [f"after {_time(poll)}" for poll in before] + [f"before {_time(p)}" for p in after]
    return f"; its polls were {' and '.join(times)}" if times else ""


def _time(poll: Poll) -> str:
    return f"{datetime.fromtimestamp(poll.time / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def polls_beside(
    database: Path, catalog: Catalog, mine: FileWal | None, lost: Lost | None = None
) -> Head:
    """The polls of the file beside a database; `mine`: whether that is the WAL.

    Raises StoreError.
    """
    file = mine or FileWal(path_beside(database), catalog, lost)
    head = Head()
    if mine is None and not path_beside(database).exists():
        return head
    try:
        for poll in file.polls():
            head.take(poll)
    finally:
        if mine is None:
            file.close()
    return head


def catalog_names(catalog: Catalog | None) -> dict[int, Name]:
    """The names that a database has."""
    return (
        {}
        if catalog is None
        else {number: entry.name for number, entry in dict(catalog.by_id).items()}
    )


def _check(numbers: Iterable[int], names: Mapping[int, Name]) -> int:
    """A checksum of what these numbers mean."""
    return zlib.crc32(json.dumps([[n, *names[n]] for n in sorted(numbers)]).encode())


def _numbers(chunks: Iterable[Chunk]) -> set[int]:
    return {column.series for chunk in chunks for column in chunk.columns}


@dataclass(frozen=True, slots=True)
class _RecordNames:
    """The names of series numbers: `told` by earlier records of the file, else as the database
    (`here`) has them.

    `careful`: records are missing, which may have told names.
    """

    told: dict[int, Name]
    here: Mapping[int, Name]
    careful: bool

    def of(self, numbers: set[int], check: int | None) -> Mapping[int, Name]:
        """The names that a record uses; its checksum, where it has one, decides. Raises StoreError
        (corrupt).
        """
        unnamed = sorted(numbers - self.told.keys())
        if not self.careful and not unnamed:
            return self.told
        if check is not None:
            for names in (self.told, {**self.told, **self.here}, {**self.here, **self.told}):
                if numbers <= names.keys() and _check(numbers, names) == check:
                    return names
        elif not unnamed:
            return self.told
        text = f"a record of the journal file has series {min(unnamed or numbers)}, which it"
        raise StoreError(f"{text} does not name", code=StoreCode.CORRUPT)


def _polls(record: bytes, names: _RecordNames) -> Iterator[Poll]:
    """The polls of one record; adds its names to `names`."""
    length, at = int.from_bytes(record[:_LENGTH], "little"), _LENGTH
    check = None
    if length & _CHECKED:
        check, at = int.from_bytes(record[at : at + _LENGTH], "little"), at + _LENGTH
    end = at + (length & ~_CHECKED)
    for number, device, quantity, unit in _listed(record[at:end]):
        names.told[number] = device, quantity, unit
    chunks = [chunk for chunk in commit_record.decode(record[end:]) if chunk.columns]
    named = names.of(_numbers(chunks), check)
    polls = PollDecoder(named.__getitem__)
    for chunk in chunks:
        yield from polls.of(chunk, named[chunk.columns[0].series][0])


def _listed(packed: bytes) -> list[tuple[int, str, str, str]]:
    try:
        listed = json.loads(zlib.decompress(packed)) if packed else []
        return [(int(number), str(a), str(b), str(c)) for number, a, b, c in listed]
    except (TypeError, ValueError, zlib.error) as error:
        text = f"a record of the journal file is damaged: {error}"
        raise StoreError(text, code=StoreCode.CORRUPT) from error
