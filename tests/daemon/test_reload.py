"""One way to change what runs: all parts prepare, then all of them commit, or none."""

import asyncio
import logging

import pytest

from meterd.config.settings import Settings
from meterd.daemon.reload import PreparedChange, committed, prepared, to_the_end
from meterd.errors import ConfigError


class Noted:
    """A part that notes what it is asked for, and fails where it is told to."""

    def __init__(self, name: str, notes: list[str], fails: str = "") -> None:
        self.name, self.notes, self.fails = name, notes, fails

    def _step(self, step: str) -> None:
        self.notes.append(f"{self.name} {step}")
        if self.fails == step:
            raise ConfigError(f"{self.name} cannot {step}")

    async def prepare(self, settings: Settings | None) -> PreparedChange:
        await asyncio.sleep(0)
        self._step("prepare")
        return self

    async def commit(self) -> None:
        self._step("commit")

    async def retire(self) -> None:
        await asyncio.sleep(0)
        self._step("retire")

    async def abandon(self) -> None:
        self._step("abandon")


async def test_what_is_new_comes_in_order_and_what_is_old_ends_in_the_other() -> None:
    notes: list[str] = []
    await committed(await prepared([Noted(name, notes) for name in "ab"], Settings()))
    assert notes == ["a prepare", "b prepare", "a commit", "b commit", "b retire", "a retire"]


@pytest.mark.parametrize("place", range(3))
async def test_where_one_cannot_the_others_put_away_what_they_prepared(place: int) -> None:
    notes: list[str] = []
    parts = [Noted(n, notes, "prepare" if i == place else "") for i, n in enumerate("abc")]
    with pytest.raises(ConfigError, match="cannot prepare"):
        await prepared(parts, Settings())
    asked = [f"{name} prepare" for name in "abc"[: place + 1]]
    assert notes == asked + [f"{name} abandon" for name in reversed("abc"[:place])]


async def test_a_bug_in_one_step_keeps_nobody_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes: list[str] = []
    parts = [Noted("a", notes, "commit"), Noted("b", notes, "retire"), Noted("c", notes)]
    with caplog.at_level(logging.ERROR):
        await committed(await prepared(parts, Settings()))
    assert notes[3:] == [f"{n} commit" for n in "abc"] + [f"{n} retire" for n in "cba"]
    assert len(caplog.records) == 2


async def test_who_is_cancelled_while_it_commits_is_told_once_it_is_done() -> None:
    notes: list[str] = []

    async def work() -> None:
        for number in range(3):
            await asyncio.sleep(0)
            notes.append(str(number))

    task = asyncio.create_task(to_the_end(work()))
    for _ in range(2):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert notes == ["0", "1", "2"]
