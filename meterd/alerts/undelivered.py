"""Notices that a hook has not delivered yet: they outlive a reload and a restart."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from meterd.alerts.hooks.notification import Hook, Notification
from meterd.model.alert import Alert, AlertState

_ALERT = tuple(field.name for field in fields(Alert))


def count(hooks: Mapping[str, Hook]) -> int:
    return sum(len(hook.undelivered()) for hook in hooks.values())


def saved(hooks: Mapping[str, Hook]) -> dict[str, list[dict[str, Any]]]:
    """By hook, as plain data."""
    waiting = {name: hook.undelivered() for name, hook in hooks.items()}
    return {name: [_plain(one) for one in notices] for name, notices in waiting.items() if notices}


def _plain(notice: Notification) -> dict[str, Any]:
    # asdict() copies deeply, and takes ten times as long; a thousand may wait.
    alert = {name: getattr(notice.alert, name) for name in _ALERT}
    told = {"site": notice.site, "text": notice.text, "labels": dict(notice.labels)}
    return {"alert": alert, **told}


def restored(found: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, list[Notification]]:
    """What `saved` gave. Raises ValueError, TypeError or KeyError for other data."""
    return {name: [_notice(one) for one in notices] for name, notices in found.items()}


def _notice(found: Mapping[str, Any]) -> Notification:
    alert = dict(found["alert"])
    alert["state"] = AlertState(alert["state"])
    return Notification(
        Alert(**alert), str(found["site"]), str(found["text"]), dict(found["labels"])
    )


def hand_over(old: Mapping[str, Hook], new: Mapping[str, Hook]) -> None:
    """What the old hooks still have goes to the new ones of the same name.

    What is under way goes, too: it may fail. Then a receiver gets it twice, under one key.
    """
    for name, hook in new.items():
        before = old.get(name)
        if before is None or before is hook:
            continue
        for notice in before.undelivered():
            hook.post(notice)
        before.forget()
