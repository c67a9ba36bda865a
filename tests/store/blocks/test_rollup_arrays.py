"""Many roll-ups at once say what each says alone."""

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.errors import StoreError
from meterd.store.blocks import rollup_arrays, rollup_codec
from meterd.store.blocks.rollup import ALIGNMENT_MS, QUARTER_MS, QUARTERS, QuarterRollup, fold
from meterd.store.blocks.slicing import DAY as DAY_MS

from . import old_rollup

_tenths = st.integers(-(10**9), 10**9).map(lambda whole: whole / 10)
_odd = st.sampled_from([0.0, -0.0, 1e300, 0.1 + 0.2, 2.0**53, 230.10000610351562])
_number = st.one_of(_tenths, _odd)
_full = st.builds(
    QuarterRollup, st.integers(1, 900), _number, _number, _number, st.none() | st.integers(0, 9999)
)
_hollow = st.builds(lambda rise: QuarterRollup(0, nan, nan, 0.0, rise), st.integers(0, 2**40))
_alike = st.builds(QuarterRollup, st.just(90), _tenths, _tenths, _tenths)
_whole_days = st.lists(_alike, min_size=QUARTERS, max_size=QUARTERS).map(
    lambda quarters: dict(enumerate(quarters))
)
_days = st.lists(st.dictionaries(st.integers(0, 95), _full | _hollow) | _whole_days, max_size=5)


def _same(found: float, wanted: float) -> bool:
    return isnan(wanted) if isnan(found) else found.hex() == wanted.hex()


@given(st.integers(0, 40_000), _days)
def test_days_come_back_bit_for_bit(first: int, days: list[dict[int, QuarterRollup]]) -> None:
    packed = [
        rollup_codec.pack(day, {day * QUARTERS + place: one for place, one in sorted(some.items())})
        for day, some in enumerate(days, first)
    ]
    wanted = [pair for body in packed for pair in rollup_codec.unpack(body)[1].items()]
    found = rollup_arrays.decode(packed)
    assert found.numbers.tolist() == [number for number, _ in wanted]
    assert found.n.tolist() == [one.n for _, one in wanted]
    for lane, name in ((found.low, "min"), (found.high, "max"), (found.total, "sum")):
        pairs = zip(lane.tolist(), (getattr(one, name) for _, one in wanted), strict=True)
        assert all(_same(ours, theirs) for ours, theirs in pairs)


def _body() -> bytes:
    return rollup_codec.pack(
        5, {5 * QUARTERS + n: QuarterRollup(9, 1.5, 2.5, n / 2) for n in range(96)}
    )


def test_lanes_that_nobody_wants_are_not_known() -> None:
    found = rollup_arrays.decode([_body()], ("sum",))
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
    assert found.total.tolist() == [n / 2 for n in range(96)]


def test_a_damaged_day_is_refused() -> None:
    body = _body()
    for place in range(len(body)):
        broken = body[:place] + bytes((body[place] ^ 0x10,)) + body[place + 1 :]
        with pytest.raises(StoreError, match="damaged") as raised:
            rollup_arrays.decode([body, broken])
        assert raised.value.code == "corrupt"


def test_no_days_have_no_quarters() -> None:
    assert len(rollup_arrays.decode([]).numbers) == 0


@given(st.lists(st.tuples(st.integers(0, 2879), _tenths), max_size=80), st.integers(0, 2))
def test_edges_come_apart_from_the_others(polls: list[tuple[int, float]], old: int) -> None:
    samples = {minute * 60_000: value for minute, value in polls}
    by_day = {
        day: {t: v for t, v in sorted(samples.items()) if t // DAY_MS == day} for day in (0, 1)
    }
    bodies = [
        (old_rollup if day < old else rollup_codec).pack(
            day, fold(list(some), list(some.values()), counter=False)
        )
        for day, some in by_day.items()
        if some
    ]
    inner, aligned, unknown = rollup_arrays.decode_apart(bodies)
    assert unknown == [day for day in (0, 1) if by_day[day] and day < old]
    known = {t: v for day in (0, 1) if day >= old for t, v in by_day[day].items()}
    at_aligned = {t // QUARTER_MS: v for t, v in known.items() if t % ALIGNMENT_MS == 0}
    assert dict(zip(aligned.numbers.tolist(), aligned.values.tolist(), strict=True)) == at_aligned
    rest: dict[int, list[float]] = {}
    for time, value in known.items():
        if time % ALIGNMENT_MS:
            rest.setdefault(time // QUARTER_MS, []).append(value)
    assert inner.numbers.tolist() == sorted(rest)
    for number, n, low, high, total in zip(*(lane.tolist() for lane in inner), strict=True):
        assert (n, low, high) == (len(rest[number]), min(rest[number]), max(rest[number]))
        assert total == pytest.approx(sum(rest[number]), abs=1e-6)
