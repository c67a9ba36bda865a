"""Hints: given when what is lost has a pattern, never where an answer disproved them."""

from meterd.errors import LinkCode, LinkError, ProtocolError
from meterd.wire.diagnostics import LinkDiagnostics, hint

STATION = 7


def silence() -> LinkError:
    return LinkError("no answer in time", code=LinkCode.TIMEOUT)


def garbled() -> LinkError:
    return ProtocolError("is no answer", code=LinkCode.GARBLED)


def lose(
    hints: LinkDiagnostics, *, soon: bool = False, noise: int = 0, station: int = STATION
) -> str:
    return str(hints.lost(silence(), station, soon=soon, noise=noise))


def test_a_station_that_answers_only_the_first_of_two_requests_may_need_a_gap() -> None:
    hints = LinkDiagnostics()
    texts = []
    for _ in range(4):
        hints.answered(STATION, soon=False)
        texts.append(lose(hints, soon=True))
    assert ["gap" in text for text in texts] == [False, False, True, True]
    assert texts[0] == "no answer in time"


def test_one_that_ever_answered_at_once_needs_no_gap() -> None:
    hints = LinkDiagnostics()
    hints.answered(STATION, soon=True)
    assert not any("gap" in lose(hints, soon=True) for _ in range(10))
    assert "gap" in [lose(hints, soon=True, station=8) for _ in range(3)][-1]


def test_a_dead_station_is_not_said_to_need_a_gap() -> None:
    hints = LinkDiagnostics()
    hints.answered(8, soon=False)
    assert not any(hint(lose(hints)) for _ in range(20))


def test_devices_without_an_address_get_no_such_hint() -> None:
    hints = LinkDiagnostics()
    assert not any(hint(lose(hints, soon=True, station=0)) for _ in range(20))


def test_three_connections_whose_first_request_is_lost_may_need_a_delay() -> None:
    hints = LinkDiagnostics()
    texts = []
    for _ in range(3):
        hints.opened()
        texts.append(lose(hints))
        hints.answered(STATION, soon=False)
    assert ["connect_delay" in text for text in texts] == [False, False, True]


def test_a_first_request_that_was_answered_once_shows_that_no_delay_is_needed() -> None:
    hints = LinkDiagnostics()
    hints.opened()
    hints.answered(STATION, soon=False)
    for _ in range(10):
        hints.opened()
        assert not hint(lose(hints))


def test_noise_five_times_in_a_row_on_a_serial_line_asks_for_its_settings() -> None:
    hints = LinkDiagnostics("9600 8N1")
    texts = [str(hints.lost(garbled(), 0, soon=False, noise=0)) for _ in range(3)]
    texts += [lose(hints, noise=count) for count in (4, 5)]
    assert ["9600 8N1" in text for text in texts] == [False, False, False, False, True]


def test_a_whole_frame_or_plain_silence_in_between_means_that_the_line_is_set_right() -> None:
    hints = LinkDiagnostics("9600 8N1")
    for count in range(1, 20):
        assert not hint(lose(hints, noise=count))
        if count % 4 == 0:
            hints.answered(STATION, soon=False)
    for _ in range(20):
        assert not hint(lose(hints, noise=20))


def test_noise_on_a_network_says_nothing_of_a_baud_rate() -> None:
    hints = LinkDiagnostics()
    assert not any(hint(lose(hints, noise=count)) for count in range(1, 20))


def test_code_and_kind_of_the_error_stay() -> None:
    hints = LinkDiagnostics("9600 8N1")
    error = [hints.lost(garbled(), 0, soon=False, noise=0) for _ in range(5)][-1]
    assert isinstance(error, ProtocolError)
    assert error.code == "garbled"
    assert str(error).startswith("is no answer; hint: ")
    assert hint(str(error)).startswith("; hint: ")
    assert hint("is no answer") == ""


def test_bytes_that_never_become_an_answer_are_noise() -> None:
    hints = LinkDiagnostics("2400 8N1")
    texts = [str(hints.lost(silence(), 0, soon=False, noise=0, rest=True)) for _ in range(5)]
    assert ["2400 8N1" in text for text in texts] == [False] * 4 + [True]


def test_where_nothing_was_ever_heard_the_usual_mistakes_are_named() -> None:
    assert "?framer=rtu" in lose(LinkDiagnostics())
    assert "really set to 9600 8N1" in lose(LinkDiagnostics("9600 8N1"))
    assert "?framer=rtu" not in lose(LinkDiagnostics(), noise=3)
    assert "nothing was ever heard" not in lose(LinkDiagnostics("2400 8N1"), station=0)


def test_one_that_hangs_up_at_the_first_request_may_be_held_by_another() -> None:
    hints = LinkDiagnostics()
    closed = LinkError("closed the connection", code=LinkCode.CLOSED)
    assert not hint(str(hints.lost(closed, STATION, soon=False, noise=0)))
    hints.opened()
    assert "another client" in str(hints.lost(closed, STATION, soon=False, noise=0))
