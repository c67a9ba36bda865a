"""Leases: which meterd of a cluster polls and writes a device.

Each device has a row in `lease`: its holder, a token, and until when, by the database's clock.

- **Beat.** Every half period each meterd renews its leases to two periods from now, and takes
  those that are over or that nobody had. Taking raises the token by one. So a device whose
  meterd died has another one before three periods have passed.
- **Fence.** Each transaction that writes for a device first locks its lease and compares the
  token with the one that this meterd was given. Where it is another one, nothing is written and
  the device is given up, with all that is in memory of it; the rest is written in the next try.
  The transaction also counts in that row, so that on a Galera cluster, whose nodes do not see
  each other's locks, either the writer or the taker loses its certification.
- **Fair shares.** Each meterd has a row of its own in `lease`, beyond the devices' numbers, with
  the same end; its token is a checksum of the devices it is told to poll. Those that are told the
  same share them evenly: who has too many stops to poll some, commits them, and only then gives
  them back. Who is told other devices takes what nobody has.
- **Numbers.** A device is numbered, alone in a transaction, before it is leased. Its series are
  `device << 16 | 1, 2, …`, and WAL rows `n << 14 | device`, one for each device of a commit:
  so nobody needs to know what others number, and a row belongs to one device as a block does.
- **Adoption.** The new holder reads the WAL rows of the device and seals them as its own.
- **An older store.** Where an administrator restored a copy, leases are older than those known
  here. Then each meterd takes only its own ones anew for the length of a lease, as it has in
  memory what the copy lacks.

Rows of a meterd that was alone before are cut into such rows at the first start. What two
meterds remember (counters, by device) goes with the lease. The nodes' clocks need not agree
with those of the meterds, but with each other to a fraction of a period.
"""

import asyncio
import logging
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, func, insert, select, update

from meterd.errors import StoreCode, StoreError
from meterd.model.clock import Clock, SystemClock
from meterd.model.sample import Poll
from meterd.store.cluster.lease_state import DeviceLease, LeaseState
from meterd.store.cluster.members import Member, checksum, live_members
from meterd.store.cluster.rebalancing import Rebalancer, choose_devices
from meterd.store.db import renames
from meterd.store.db.connections import Opened
from meterd.store.db.keys import MOST_DEVICES
from meterd.store.db.lease_check import now_ms
from meterd.store.db.schema import device, lease, memo
from meterd.store.db.servers import ServerDatabase

_BEATS = 2  # in a period
_LENGTH = 2  # of a lease, in periods
_TURNS = 5  # after conflicts with other meterds
_LAST_STATEMENT = 5.0  # seconds; others wait until our leases are over otherwise

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _LeaseRound:
    """What one beat found and did. `until` is in Unix ms of the database's clock."""

    until: int
    held: Mapping[str, DeviceLease]
    memos: Mapping[str, str]
    most: int  # devices that we are to have
    older: bool  # the store is an older one than at the last beat


class Leases:
    """The devices that this meterd has. `share` is for its Writer."""

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        name: str | None = None,
        period: float = 10.0,
        alone: str = "poll",
        clock: Clock | None = None,
    ) -> None:
        """`period` in seconds. `alone`: `poll` or `pause` while the store cannot be reached.

        Raises StoreError for a URL that means no server.
        """
        urls = (url,) if isinstance(url, str) else tuple(url)
        if any(address.startswith("sqlite:") for address in urls):
            text = "a cluster needs a store on a server: postgresql:// or mariadb://"
            raise StoreError(text, code=StoreCode.SETTINGS)
        # Each start is another holder: what it knew before is not what it knows now.
        self.holder = f"{name or socket.gethostname()[:60]} {uuid.uuid4().hex[:12]}"
        self.share = LeaseState(ServerDatabase(urls), self.holder)
        self._database = ServerDatabase(urls, shared=True)
        self._opened: Opened | None = None
        self._made = False
        self._made_for = urls, name
        self.tune(period, alone)
        self._clock = clock or SystemClock()
        self._good_until = float("-inf")
        self.heard: Callable[[Sequence[Poll]], None] | None = None  # what others committed
        self._told: frozenset[str] = frozenset()
        self._leaving: frozenset[str] = frozenset()
        self._member = Member(self.holder)
        self._careful_until = float("-inf")
        self._renames = ""  # as the store told them last

    def is_for(self, url: str | Sequence[str], name: str | None) -> bool:
        """Whether the constructor would make the same leases of these arguments."""
        return self._made_for == ((url,) if isinstance(url, str) else tuple(url), name)

    def tune(self, period: float, alone: str) -> None:
        """From the next beat on; see the constructor."""
        self._period, self._alone = period, alone

    @property
    def held(self) -> frozenset[str]:
        """The devices that may be polled now."""
        if self._alone == "pause" and self._clock.monotonic() > self._good_until:
            return frozenset()
        return frozenset(self.share.held) - self._leaving

    async def run(
        self,
        wanted: Callable[[], Sequence[str]],
        changed: Callable[[frozenset[str]], Awaitable[None]],
    ) -> None:
        """Renews and takes leases until it is cancelled; `changed` gets the devices held, whenever
        they differ.
        """
        while True:
            await self.beat(wanted())
            if self.heard is not None:
                self.heard(self.share.others.newest())
            if self._told != self.held:
                self._told = self.held
                await changed(self._told)
            await self.hand_over()
            await self._clock.sleep(self._period / _BEATS)

    async def beat(self, wanted: Sequence[str]) -> None:
        """Renews and takes leases once. Never raises StoreError: the next beat tries again."""
        try:
            await asyncio.to_thread(self._beat, tuple(wanted))
        except StoreError as error:
            _log.warning("leases are not renewed: %s", error)

    async def hand_over(self) -> None:
        """Releases devices beyond the fair share, which are polled no more, after their polls are
        committed.
        """
        if not self._leaving:
            return
        try:
            if self.share.flush is not None:
                await self.share.flush()
            await asyncio.to_thread(self._release)
        except StoreError as error:
            _log.warning("no device is handed over: %s", error)

    async def close(self) -> None:
        """Releases all leases, so that others take them at once; call it after the writer is
        closed.
        """
        self._database.hurry(_LAST_STATEMENT)
        ended = update(lease).where(lease.c.holder == self.holder).values(until=0)
        with suppress(StoreError):
            await asyncio.to_thread(self._turns, lambda connection: connection.execute(ended))
        self.share.held = {}
        self._fail()

    # From here on: a thread of the pool, one at a time.

    def _beat(self, wanted: Sequence[str]) -> None:
        began = self._clock.monotonic()
        if not self._made:
            self.share.upgrade()
            self._made = True
        wanted = self._turns(partial(_called, wanted=wanted))
        for name in self._missing(wanted):
            self._turns(partial(_number, name=name))
        turn = self._turns(partial(self._turn, wanted=wanted))
        if turn.older:
            _log.warning("the store is an older one than before: only our own leases are taken")
            self._careful_until = began + self._period * _LENGTH
        self._member.until = turn.until
        self._good_until = began + self._period * _LENGTH
        ours = {device_lease.id for device_lease in turn.held.values()}
        for gone in (
            name for name, device_lease in self.share.held.items() if device_lease.id not in ours
        ):
            _log.warning("another meterd has %s by now", gone)
        if turn.held.keys() - self.share.held.keys():
            self.share.memos = turn.memos
        self.share.held = turn.held
        self._leaving = choose_devices(turn.held, self._leaving, turn.most)
        held = [device_lease.id for device_lease in turn.held.values()]
        is_renamed = renames.state(turn.memos) != self._renames
        self._turns(lambda connection: self.share.others.look(connection, held, renamed=is_renamed))
        self._renames = renames.state(turn.memos)

    def _release(self) -> None:
        going = {
            name: device_lease
            for name, device_lease in self.share.held.items()
            if name in self._leaving - self.share.waiting()
        }
        ids = sorted(device_lease.id for device_lease in going.values())
        ours = (lease.c.holder == self.holder) & lease.c.device_id.in_(ids)
        ended = update(lease).where(ours).values(until=0, holder="")
        self._turns(lambda connection: connection.execute(ended))
        remaining = {
            name: device_lease
            for name, device_lease in self.share.held.items()
            if name not in going
        }
        self.share.held = remaining
        self._leaving -= going.keys()
        _log.info("handed over: %s", ", ".join(sorted(going)) or "nothing yet")

    def _missing(self, wanted: Sequence[str]) -> list[str]:
        numbered = self._turns(lambda connection: set(connection.scalars(select(device.c.name))))
        return [name for name in wanted if name not in numbered]

    def _turn(self, connection: Connection, wanted: Sequence[str]) -> _LeaseRound:
        """Renews the member row and the leases held, and takes free ones up to the fair share."""
        now = now_ms(connection)
        until = now + round(self._period * _LENGTH * 1000)
        statement = select(device).where(device.c.name.in_(wanted)).order_by(device.c.id)
        ids = {row.id: row.name for row in connection.execute(statement)}
        token = checksum(wanted)
        older = self._member.show(connection, now, until, token)
        locked = select(lease).where(lease.c.device_id.in_(ids)).order_by(lease.c.device_id)
        rows = {row.device_id: row for row in connection.execute(locked.with_for_update())}
        assignment = self._assignment(ids, rows, now, live_members(connection, now, token))
        most = assignment.most(self.holder)
        careful = older or self._clock.monotonic() < self._careful_until
        room = 0 if careful else most - assignment.counts[self.holder]
        held = {}
        for number, name in ids.items():
            row = rows.get(number)
            if not self._has(number, row):
                if room <= 0 or not _is_free(row, now):
                    continue
                room -= 1
            held[name] = DeviceLease(number, self._take_lease(connection, number, row, until))
        memos = {row.name: row.body for row in connection.execute(select(memo))}
        return _LeaseRound(until, held, memos, most, older)

    def _assignment(
        self, ids: Iterable[int], there: Mapping[int, Any], now: int, alike: Iterable[str]
    ) -> Rebalancer:
        """`alike` are the living meterds that want the same devices as we do."""
        counts = dict.fromkeys(alike, 0)
        counts[self.holder] = free = 0
        for number in ids:
            row = there.get(number)
            if self._has(number, row):
                counts[self.holder] += 1
            elif _is_free(row, now):
                free += 1
            elif row is not None and row.holder in counts:
                counts[row.holder] += 1
        return Rebalancer(counts, free)

    def _has(self, number: int, row: Any) -> bool:
        """Whether a device is ours, even if its lease is over, or older than we know."""
        lease = next((each for each in self.share.held.values() if each.id == number), None)
        if row is None:
            return lease is not None
        if row.holder == self.holder:
            return True
        return lease is not None and row.token < lease.token and row.until < self._member.until

    def _take_lease(self, connection: Connection, number: int, row: Any, until: int) -> int:
        """The token of a lease that is ours now."""
        own_token = {
            device_lease.id: device_lease.token for device_lease in self.share.held.values()
        }.get(number, 0)
        if row is None:
            token = own_token + 1
            first = {"device_id": number, "holder": self.holder, "token": token}
            connection.execute(insert(lease), {**first, "until": until, "writes": 0})
            return token
        # One that was given up comes back with a new token, and is adopted anew.
        mine = row.holder == self.holder and own_token == row.token
        token = own_token if mine else max(row.token, own_token) + 1
        ours = {"holder": self.holder, "token": token, "until": until}
        connection.execute(update(lease).where(lease.c.device_id == number).values(**ours))
        return token

    def _turns(self, work: Callable[[Connection], _T]) -> _T:
        """The work's transaction, again where another meterd's wins."""
        for turn in range(_TURNS):
            try:
                if self._opened is None:
                    self._opened = self._database.writing()
                with self._opened.begin() as connection:
                    return work(connection)
            except StoreError as error:
                self._fail()
                if error.code != StoreCode.CONFLICT or turn == _TURNS - 1:
                    raise
        raise AssertionError("there is one turn at least")

    def _fail(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _called(connection: Connection, wanted: Sequence[str]) -> tuple[str, ...]:
    """The names that the store has for these devices now: one may have been renamed meanwhile.

    One whose name now is wanted, too, is another device.
    """
    former = renames.former(connection)
    return tuple(
        former.get(name, name) if former.get(name) not in wanted else name for name in wanted
    )


def _number(connection: Connection, name: str) -> None:
    """A number for a device. Another meterd may try the same one: a key decides."""
    number = (connection.scalar(select(func.max(device.c.id))) or 0) + 1
    if number >= MOST_DEVICES:
        text = f"a store holds {MOST_DEVICES - 1} devices at most"
        raise StoreError(text, code=StoreCode.UNAVAILABLE)
    connection.execute(insert(device), {"id": number, "name": name})


def _is_free(row: Any, now: int) -> bool:
    return row is None or bool(row.until < now)
