"""Who gives way, judged by what has to hold whatever the connections are."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.model.shares import ClientSlot, clients_to_close, share_of

LEAST_IDLE = 10.0
NOW = 1000.0
HOSTS = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("address", "share"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::2", "fe80::2"),
        ("::1", "::1"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_a_host_is_an_ipv4_address_or_an_ipv6_network(address: str, share: str) -> None:
    assert share_of(address) == share


seats = st.lists(
    st.builds(
        lambda share, used, since: (share, used, since),
        st.sampled_from(HOSTS),
        st.none() | st.floats(0, NOW),
        st.floats(0, NOW),
    ),
    max_size=16,
)


@given(seats, st.sampled_from(HOSTS))
def test_it_is_fair(found: list[tuple[str, float | None, float]], share: str) -> None:
    there = [ClientSlot(n, *one) for n, one in enumerate(found)]
    held = Counter(one.share for one in there)
    gone = clients_to_close(share, there, held, NOW, LEAST_IDLE)
    mine = held[share] + 1
    after = held + Counter([share])
    for number in gone:
        seat = there[number]
        # Nobody with fewer connections than the newcomer's host gives way to it.
        assert after[seat.share] >= mine
        was_idle = seat.used is None or NOW - seat.used >= LEAST_IDLE
        assert was_idle or after[seat.share] > mine
        # Of its host it is the one that was used the least lately.
        others = [one for one in there if one.share == seat.share and one is not seat]
        if seat.used is not None:
            assert all(one.used is not None and one.used >= seat.used for one in others)
    if not gone:
        # Refused: nobody has more, and of those with as many nobody is idle.
        assert all(after[one.share] <= mine for one in there)
        as_many = [one for one in there if after[one.share] == mine]
        assert all(one.used is not None and NOW - one.used < LEAST_IDLE for one in as_many)
