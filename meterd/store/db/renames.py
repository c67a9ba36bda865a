"""Names that devices had before: a device is its number, so its history goes where its name goes.

A list under `renames` in the table `memo`, oldest first, says who renamed what and when. A name
from it that no device has means the device that was called so last: a configuration, a spool or
a file that still says it means that one.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, delete, select, update

from meterd.errors import MeterdError, StoreCode, StoreError
from meterd.store.db import migrate, store_url
from meterd.store.db.schema import correction, device, memo
from meterd.store.db.statements import replace_rows

_NAME = "renames"
_ALERTS = "alerts"
# More than anybody remembers; the oldest go.
_MOST = 500

log = logging.getLogger(__name__)


class RenameError(MeterdError):
    """The devices cannot be renamed or merged; a person has to choose others."""


@dataclass(frozen=True, slots=True)
class Rename:
    """A device (its number) got another name. `time` is Unix ms."""

    device: int
    old: str
    new: str
    time: int
    who: str = ""


def listed(connection: Connection) -> list[Rename]:
    """Every renaming, oldest first."""
    body = connection.scalar(select(memo.c.body).where(memo.c.name == _NAME))
    return _parsed(body)


def state(memos: Mapping[str, str]) -> str:
    """The memo of renames as it is; another text where there are others than before."""
    return memos.get(_NAME, "")


def former(connection: Connection) -> dict[str, str]:
    """The names that devices had and none has now -> the name of that device now."""
    renames = listed(connection)
    if not renames:
        return {}
    names = {row.id: row.name for row in connection.execute(select(device))}
    return _former(renames, names)


def _former(renames: Sequence[Rename], names: Mapping[int, str]) -> dict[str, str]:
    now = set(names.values())
    new_names: dict[str, str] = {}
    for rename in renames:
        # In the order in which they were given up.
        new_names.pop(rename.old, None)
        if rename.device in names:
            new_names[rename.old] = names[rename.device]
    return {old: new for old, new in new_names.items() if old not in now}


def of(url: str | Sequence[str]) -> dict[str, str]:
    """As `former`, for a store that another process may be writing; empty where there is none yet.

    Raises StoreError.
    """
    place = store_url.find(url)
    if not place.made():
        return {}
    with place.mapped(), place.reading() as connection:
        # One that is older has no renames yet.
        return former(connection) if migrate.version(connection) is not None else {}


def write(connection: Connection, rename: Rename) -> None:
    """All that the store calls by a device's name. Raises StoreError (conflict)."""
    mine = (device.c.id == rename.device) & (device.c.name == rename.old)
    if connection.execute(update(device).where(mine).values(name=rename.new)).rowcount != 1:
        raise StoreError(f"{rename.old} was renamed meanwhile", code=StoreCode.CONFLICT)
    theirs = correction.c.device == rename.old
    connection.execute(update(correction).where(theirs).values(device=rename.new))
    for row in connection.execute(select(memo)).all():
        if row.name == _ALERTS:
            _put(connection, row.name, _of_alerts(row.body, rename))
        elif row.name.endswith(f" {rename.old}"):
            # What a room remembers of a device stands under `what device`.
            connection.execute(delete(memo).where(memo.c.name == row.name))
            _put(connection, f"{row.name.removesuffix(rename.old)}{rename.new}", row.body)
    renames = [*listed(connection), rename][-_MOST:]
    _put(connection, _NAME, json.dumps([asdict(each) for each in renames]))


def absorb(connection: Connection, gone: int, rename: Rename) -> None:
    """A device became a part of another: its names, and alerts, are that one's."""
    alerts = connection.scalar(select(memo.c.body).where(memo.c.name == _ALERTS))
    if alerts is not None:
        _put(connection, _ALERTS, _of_alerts(alerts, rename))
    before = (
        replace(each, device=rename.device) if each.device == gone else each
        for each in listed(connection)
    )
    _put(connection, _NAME, json.dumps([asdict(each) for each in (*before, rename)][-_MOST:]))


def memos_renamed(memos: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    """The memos of a device, under its new name."""
    return {
        f"{name.removesuffix(old)}{new}" if name.endswith(f" {old}") else name: body
        for name, body in memos.items()
    }


def _put(connection: Connection, name: str, body: str) -> None:
    replace_rows(connection, memo, [{"name": name, "body": body}])


def _of_alerts(body: str, rename: Rename) -> str:
    """Alerts and silences that are about the device."""
    try:
        state = json.loads(body)
        for part in ("alerts", "silences"):
            for each in state.get(part, ()):
                if each["device"] == rename.old:
                    each["device"] = rename.new
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("the alerts that were noted are no state of them: %s", error)
        return body
    return json.dumps(state)


def _parsed(body: str | None) -> list[Rename]:
    try:
        return [Rename(**each) for each in json.loads(body or "[]")]
    except (ValueError, TypeError) as error:
        log.error("the store's renames cannot be read: %s", error)
        return []
