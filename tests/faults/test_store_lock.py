"""D9: another program holds the store's write lock, and polls go on all the same."""

import asyncio
import time
from pathlib import Path

import pytest

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
        await asyncio.wait_for(_written(writer.flush), 30)
        assert writer.status.dropped == 0
    assert len(samples(path)) == moment + 1
    return sorted(late)


async def _written(flush: object) -> None:
    assert callable(flush)
    await flush()


async def test_a_lock_of_seven_seconds_holds_up_no_poll(tmp_path: Path) -> None:
    late = await held(tmp_path / "meterd.db", 7.0)
    assert late[len(late) * 99 // 100] < 0.25


@pytest.mark.long
async def test_a_lock_of_a_minute_holds_up_no_poll(tmp_path: Path) -> None:
    late = await held(tmp_path / "meterd.db", 60.0)
    # 50 ms on a machine that does nothing else.
    assert late[len(late) * 99 // 100] < 0.25
