"""D9: another program holds the store's write lock, and polls go on all the same."""

import asyncio
import time
from pathlib import Path

import pytest

from meterd.store.db import sqlite
from tests.store.rigs import poll, raw, samples, store
from tests.store.test_trouble import foreign_lock


async def held(path: Path, seconds: float) -> list[float]:
    """How late the loop was, each time, while the store was held; nothing may be lost."""
    late = []
    async with store(path, commit=1.0) as (writer, reader):
        writer.take(poll(0, 0.0))
        await writer.flush()
        moment = 0
        with foreign_lock(path):
            end = time.monotonic() + seconds
            while (began := time.monotonic()) < end:
                moment += 1
                writer.take(poll(moment, float(moment)))
                await asyncio.sleep(0.01)
                late.append(time.monotonic() - began - 0.01)
            assert len(await raw(reader)) == moment + 1
        await asyncio.wait_for(_written(writer.flush), 60)
        assert writer.status.dropped == 0
    assert len(samples(path)) == moment + 1
    return sorted(late)


async def _written(flush: object) -> None:
    assert callable(flush)
    await flush()


def patient(monkeypatch: pytest.MonkeyPatch, milliseconds: int) -> None:
    """Writers opened from now on wait so long for a lock."""
    pragmas = [p for p in sqlite.WRITER_PRAGMAS if not p.startswith("busy_timeout")]
    monkeypatch.setattr(
        sqlite, "WRITER_PRAGMAS", (f"busy_timeout = {milliseconds}", *pragmas), raising=True
    )


async def test_a_lock_of_three_seconds_holds_up_no_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, 2000)
    late = await held(tmp_path / "meterd.db", 3.0)
    # Had a poll waited for the lock, it would have waited for the two seconds.
    assert late[-1] < 1.9


@pytest.mark.long
async def test_a_lock_of_a_minute_holds_up_no_poll(tmp_path: Path) -> None:
    late = await held(tmp_path / "meterd.db", 60.0)
    # 50 ms on a machine that does nothing else; it waits for a lock for five seconds.
    assert late[-1] < 4.9
