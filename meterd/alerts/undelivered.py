"""Undelivered notifications of all hooks: hand-over on a reload, snapshot for a restart."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from meterd.alerts.hooks.notification import Hook, Notification
from meterd.model.alert import Alert, AlertState

_ALERT_FIELDS = tuple(field.name for field in fields(Alert))


def count(hooks: Mapping[str, Hook]) -> int:
    return sum(len(hook.undelivered()) for hook in hooks.values())


def snapshot(hooks: Mapping[str, Hook]) -> dict[str, list[dict[str, Any]]]:
    """The undelivered notifications by hook name, JSON-serialisable; without empty queues."""
    notices_by_hook = {name: hook.undelivered() for name, hook in hooks.items()}
    return {
        name: [_to_dict(notice) for notice in notices]
        for name, notices in notices_by_hook.items()
        if notices
    }


def _to_dict(notice: Notification) -> dict[str, Any]:
    # asdict() copies deeply and takes ten times as long; a queue holds up to a thousand.
    alert = {name: getattr(notice.alert, name) for name in _ALERT_FIELDS}
    context = {"site": notice.site, "text": notice.text, "labels": dict(notice.labels)}
    return {"alert": alert, **context}


def restore(snapshot: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, list[Notification]]:
    """Notifications of a `snapshot`. Raises ValueError, TypeError or KeyError for other data."""
    return {name: [_from_dict(notice) for notice in notices] for name, notices in snapshot.items()}


def _from_dict(notice: Mapping[str, Any]) -> Notification:
    alert = dict(notice["alert"])
    alert["state"] = AlertState(alert["state"])
    return Notification(
        Alert(**alert), str(notice["site"]), str(notice["text"]), dict(notice["labels"])
    )


def hand_over(old: Mapping[str, Hook], new: Mapping[str, Hook]) -> None:
    """Moves the old hooks' queues to the new hooks of the same name.

    A notification in flight moves, too, as its delivery may fail: a receiver may get it twice,
    with the same key.
    """
    for name, hook in new.items():
        old_hook = old.get(name)
        if old_hook is None or old_hook is hook:
            continue
        for notice in old_hook.undelivered():
            hook.post(notice)
        old_hook.forget()
