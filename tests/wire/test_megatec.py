"""Megatec lines: what is accepted as the answer to a command."""

import pytest

from meterd.errors import LinkCode, LinkError, ProtocolError, Unsupported
from meterd.testing import Reply, ScriptedLink
from meterd.wire.megatec import LINE_LIMIT, query

LINE = "(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000"
GOOD = LINE.encode() + b"\r"

chopped = pytest.mark.parametrize("chop", [0, 1, 7])


async def answer(reply: Reply, chop: int = 0) -> tuple[str, ScriptedLink]:
    link = ScriptedLink({b"Q1\r": reply}, chop=chop)
    return await query(link, "Q1", b"("), link


@chopped
async def test_a_line_ends_at_its_carriage_return(chop: int) -> None:
    line, link = await answer(GOOD, chop)
    assert line == LINE
    assert link.sent == [b"Q1\r"]
    assert not link.counters


@chopped
@pytest.mark.parametrize("padding", [b"\x00", b"\r", b"\n", b"\r\n\x00\x00"])
async def test_padding_before_the_line_is_dropped_and_counted(padding: bytes, chop: int) -> None:
    line, link = await answer(padding + GOOD, chop)
    assert line == LINE
    assert link.counters == {"padding": len(padding)}


async def test_padding_behind_the_line_leaves_nothing_for_the_next_exchange() -> None:
    line, link = await answer(GOOD + b"\n\x00\x00")
    assert line == LINE
    assert not link.buffer


@chopped
@pytest.mark.parametrize("echo", [b"Q1", b"Q1\r", b"\x00Q1\r\n"])
async def test_one_echo_before_the_answer_is_dropped_and_counted(echo: bytes, chop: int) -> None:
    line, link = await answer(echo + GOOD, chop)
    assert line == LINE
    assert link.counters["echo"] == 1


async def test_a_second_echo_is_no_answer() -> None:
    with pytest.raises((ProtocolError, Unsupported)):
        await answer(b"Q1\rQ1\r" + GOOD)


@chopped
@pytest.mark.parametrize("refusal", [b"Q1", b"Q1\r", b"N\r", b"NAK\r", b"(NAK\r", b"Q1\rN\r"])
async def test_an_echo_alone_and_a_nak_mean_unsupported(refusal: bytes, chop: int) -> None:
    with pytest.raises(Unsupported, match="does not know Q1"):
        await answer(refusal, chop)


@pytest.mark.parametrize("refusal", [b"N", b"(NAK"])
async def test_a_nak_that_lost_its_end_means_unsupported_too(refusal: bytes) -> None:
    with pytest.raises(Unsupported):
        await answer(refusal)


@pytest.mark.parametrize(
    "reply",
    [
        LINE.replace("226", "2\x0026").encode() + b"\r",
        LINE.replace("226", "2\t26").encode() + b"\r",
        LINE.replace(" ", "\n", 1).encode() + b"\r",
        LINE.encode()[:-1] + b"\x7f\r",
        LINE.encode()[:-1] + b"\xb0\r",
        b"x" + GOOD,
        GOOD[1:],
        b"UPS No Ack\r",
        b"ACK\r",
        b"Q1 \r",
        b"F\r",
    ],
)
@chopped
async def test_control_characters_noise_and_other_starts_are_garbled(
    reply: bytes, chop: int
) -> None:
    with pytest.raises(ProtocolError) as caught:
        await answer(reply, chop)
    assert caught.value.code == "garbled"


async def test_a_line_that_never_ends_is_given_up_at_the_limit() -> None:
    with pytest.raises(ProtocolError, match="without an end"):
        await answer(b"(" + b"0" * LINE_LIMIT + b"\r", 1)
    line, _ = await answer(b"(" + b"0" * (LINE_LIMIT - 1) + b"\r", 1)
    assert len(line) == LINE_LIMIT


@chopped
async def test_a_whole_status_line_without_its_end_is_taken_at_silence(chop: int) -> None:
    line, link = await answer(LINE.encode(), chop)
    assert line == LINE
    assert link.counters["no_cr"] == 1


@pytest.mark.parametrize("size", range(len(LINE)))
async def test_a_line_cut_anywhere_is_no_answer(size: int) -> None:
    with pytest.raises(LinkError) as caught:
        await answer(LINE[:size].encode())
    assert caught.value.code == "timeout"


@pytest.mark.parametrize("line", [LINE + "1", LINE[:-1] + "2", LINE.replace("226", "2\x0126", 1)])
async def test_an_endless_line_that_is_not_whole_is_no_answer(line: str) -> None:
    with pytest.raises(LinkError) as caught:
        await answer(line.encode())
    assert caught.value.code == "timeout"


async def test_other_lines_need_their_end() -> None:
    link = ScriptedLink({b"F\r": b"#220.0 003 12.00 50.0"})
    with pytest.raises(LinkError):
        await query(link, "F", b"#")


async def test_a_port_that_is_gone_stays_that() -> None:
    with pytest.raises(LinkError) as caught:
        await answer(LinkError("gone", code=LinkCode.PORT_GONE))
    assert caught.value.code == "port_gone"


async def test_the_copy_of_another_commands_line_is_passed_over() -> None:
    status, rating = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\r", b"#220.0 000 024.0 50.0\r"
    link = ScriptedLink({b"Q1\r": status})
    assert await query(link, "Q1", b"(") == status[:-1].decode()
    pieces: Reply = (status, rating)
    link.script(b"F\r", pieces)
    assert await query(link, "F", b"#") == rating[:-1].decode()
    assert link.counters["copies"] == 1


async def test_a_line_like_the_one_before_counts_where_nothing_else_comes() -> None:
    status = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\r"
    link = ScriptedLink({b"Q1\r": status, b"QS\r": status})
    for command in ("Q1", "QS", "Q1", "Q1"):
        assert await query(link, command, b"(") == status[:-1].decode()
    link.script(b"F\r", status)
    with pytest.raises(ProtocolError, match="no answer to F"):
        await query(link, "F", b"#")
