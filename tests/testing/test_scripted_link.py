"""The scripted link itself: what other tests stand on."""

import pytest

from meterd.errors import LinkError
from meterd.testing import ScriptedLink, parse_transcript


def whole(size: int):  # type: ignore[no-untyped-def]
    return lambda buffer: bytes(buffer) if len(buffer) >= size else None


def test_a_transcript_reads_hex_text_and_silence() -> None:
    script = parse_transcript('# hello\n> "Q1\\r"\n< 28 32\n< "\\x0026\\r"\n> 46\n')
    assert script == {b"Q1\r": [[b"(2", b"\x0026\r"]], b"F": [[]]}


def test_the_same_request_again_gives_its_next_reply() -> None:
    assert parse_transcript('> "A"\n< "1"\n> "A"\n< "2"\n') == {b"A": [[b"1"], [b"2"]]}


@pytest.mark.parametrize("text", ["Q1", "> Q1", '< "x"', '> "Q1'])
def test_a_line_that_is_no_transcript_is_refused_with_its_number(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse_transcript(text)


async def test_replies_come_in_turn_and_the_last_repeats() -> None:
    link = ScriptedLink({b"A": [b"1", b"2"]})
    assert [await link.exchange(b"A", whole(1)) for _ in range(3)] == [b"1", b"2", b"2"]


async def test_chopped_replies_arrive_byte_by_byte() -> None:
    link = ScriptedLink({b"A": b"abc"}, chop=1)
    sizes: list[int] = []

    def parse(buffer: bytearray) -> bytes | None:
        sizes.append(len(buffer))
        return bytes(buffer) if len(buffer) == 3 else None

    assert await link.exchange(b"A", parse) == b"abc"
    assert sizes == [1, 2, 3]


async def test_what_is_not_in_the_script_meets_silence() -> None:
    link = ScriptedLink({})
    ticket = link.ticket()
    with pytest.raises(LinkError) as caught:
        await link.exchange(b"A", whole(1), ticket=ticket)
    assert caught.value.code == "timeout"
    assert link.counters["timeout"] == 1
    assert link.expired(ticket)
