"""D5: bits that flip anywhere in the database's file: an error or the right answer."""

import random
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.writer import Writer
from tests.store.rigs import NEVER, Hands, opened, samples, store, url_of
from tests.store.test_hours import HOUR, START, feed, history

Sample = tuple[int, str, float | None]


async def filled(path: Path) -> list[Sample]:
    """A store with closed days, blocks, roll-ups and a journal; what it says."""
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        polls = history(4, START, 52, every=60_000)
        await feed(writer, hands, polls)
        await writer.settle()
    return samples(path)


def answer(path: Path) -> list[Sample] | None:
    try:
        return samples(path)
    except StoreError:
        return None


def flipped(source: Path, target: Path, said: random.Random) -> None:
    """A copy with one bit that is another."""
    for left in target.parent.glob("meterd.*"):
        left.unlink()
    data = bytearray(source.read_bytes())
    data[said.randrange(len(data))] ^= 1 << said.randrange(8)
    target.write_bytes(data)


async def judged(folder: Path, count: int) -> dict[str, int]:
    """How the reader fares at so many offsets, each with one flipped bit; never wrong."""
    whole, path = folder / "whole.db", folder / "meterd.db"
    expected = set(await filled(whole))
    said, verdicts = random.Random(11), {"right": 0, "refused": 0, "missing": 0}
    for _ in range(count):
        flipped(whole, path, said)
        found = answer(path)
        if found is None:
            verdicts["refused"] += 1
            continue
        assert set(found) <= expected
        verdicts["right" if len(found) == len(expected) else "missing"] += 1
    return verdicts


async def started(folder: Path, count: int) -> int:
    """How many of so many damaged stores a writer takes up, one way or the other."""
    whole, path = folder / "whole.db", folder / "meterd.db"
    await filled(whole)
    said, begun = random.Random(12), 0
    for _ in range(count):
        flipped(whole, path, said)
        async with opened(Writer(url_of(path), commit=NEVER, clock=Hands(START + 53 * HOUR))) as it:
            begun += it.status.writable
    return begun


async def test_a_flipped_bit_never_becomes_a_wrong_value(tmp_path: Path) -> None:
    verdicts = await judged(tmp_path, 100)
    assert verdicts["refused"] > 10
    assert verdicts["missing"] <= 5


async def test_a_damaged_store_does_not_keep_meterd_from_starting(tmp_path: Path) -> None:
    assert await started(tmp_path, 25) == 25


@pytest.mark.long
async def test_none_of_a_hundred_damaged_stores_keeps_meterd_from_starting(tmp_path: Path) -> None:
    assert await started(tmp_path, 100) == 100
