from meterd.store.backlog import Backlog

from .rigs import poll


def times(backlog: Backlog) -> list[int]:
    return [one.time for one in backlog.polls()]


def test_a_batch_stays_known_until_it_is_confirmed() -> None:
    backlog = Backlog(10)
    for time in (1, 2, 3):
        backlog.add(poll(time, 230.0))
    backlog.start(2)
    backlog.add(poll(4, 230.0))
    assert (times(backlog), len(backlog), backlog.samples) == ([1, 2, 3, 4], 2, 4)
    assert backlog.confirm() == 2
    assert (times(backlog), backlog.samples) == ([3, 4], 2)


def test_a_failed_batch_is_the_oldest_again() -> None:
    backlog = Backlog(10)
    for time in (1, 2, 3):
        backlog.add(poll(time, 230.0))
    backlog.start(2)
    backlog.give_back()
    assert times(backlog) == [1, 2, 3]
    assert [one.time for one in backlog.start(2)] == [1, 2]


def test_the_oldest_makes_room_and_its_samples_are_counted() -> None:
    backlog = Backlog(2)
    for time in range(5):
        backlog.add(poll(time, 230.0))
    assert (times(backlog), backlog.samples, backlog.dropped) == ([3, 4], 2, 3)


def test_a_batch_under_way_is_never_dropped() -> None:
    backlog = Backlog(2)
    backlog.add(poll(1, 230.0))
    backlog.add(poll(2, 230.0))
    backlog.start(2)
    backlog.add(poll(3, 230.0))
    assert (times(backlog), backlog.dropped) == ([1, 2], 1)
    backlog.confirm()
    assert (times(backlog), backlog.samples) == ([], 0)
