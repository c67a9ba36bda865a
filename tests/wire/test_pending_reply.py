"""One answer and the task that waits for it: who goes on when, and what ends the wait."""

import asyncio
import contextvars
from collections.abc import Callable

import pytest

from meterd.errors import DeviceError, LinkCode, LinkError, ProtocolError
from meterd.wire.pending_reply import PendingReply
from meterd.wire.stream import BUFFER_LIMIT, Stream

whose = contextvars.ContextVar("whose", default="nobody's")


def line(buffer: bytearray) -> bytes | None:
    """All up to the first CR, which is dropped with it."""
    end = buffer.find(b"\r")
    if end < 0:
        return None
    found = bytes(buffer[:end])
    del buffer[: end + 1]
    return found


def refuse(buffer: bytearray) -> bytes | None:
    raise DeviceError("no")


def lost(error: Exception | None) -> LinkError:
    return LinkError("gone", code=LinkCode.CLOSED)


def asked(parse: Callable[[bytearray], bytes | None] = line) -> tuple[Stream, PendingReply[bytes]]:
    stream = Stream()
    answer = PendingReply(stream, parse, lost)
    stream.listen(answer.look)
    return stream, answer


async def waiting(answer: PendingReply[bytes]) -> asyncio.Task[bytes]:
    """A task that waits for the answer by now."""

    async def wait() -> bytes:
        return await answer

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def in_a_callback(deliver: Callable[[], object]) -> None:
    """As a transport delivers: from the loop itself."""
    asyncio.get_running_loop().call_soon(deliver)
    await asyncio.sleep(0)


async def test_the_task_goes_on_while_the_last_byte_is_being_delivered() -> None:
    stream, answer = asked()
    task = await waiting(answer)
    seen: list[bool] = []

    def deliver() -> None:
        stream.data_received(b"o")
        seen.append(task.done())
        stream.data_received(b"ne\r")
        seen.append(task.done())

    await in_a_callback(deliver)
    assert seen == [False, True]
    assert await task == b"one"


async def test_bytes_that_another_task_brings_wait_for_its_turn_to_end() -> None:
    stream, answer = asked()
    task = await waiting(answer)
    stream.data_received(b"one\r")
    assert not task.done()
    await asyncio.sleep(0)
    assert await task == b"one"


async def test_an_answer_that_is_there_already_is_not_waited_for() -> None:
    stream, answer = asked()
    stream.data_received(b"one\r")
    assert await answer == b"one"


async def test_the_task_goes_on_in_its_own_context() -> None:
    stream, answer = asked()

    async def wait() -> str:
        whose.set("the task's")
        await answer
        return whose.get()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await in_a_callback(lambda: stream.data_received(b"one\r"))
    assert await task == "the task's"
    assert whose.get() == "nobody's"


async def test_a_no_and_a_lost_stream_and_a_flood_are_raised_where_it_is_awaited() -> None:
    stream, answer = asked(refuse)
    task = await waiting(answer)
    await in_a_callback(lambda: stream.data_received(b"one"))
    with pytest.raises(DeviceError):
        await task

    stream, answer = asked()
    task = await waiting(answer)
    await in_a_callback(lambda: stream.connection_lost(None))
    with pytest.raises(LinkError, match="gone"):
        await task

    stream, answer = asked()
    task = await waiting(answer)
    await in_a_callback(lambda: stream.data_received(b"x" * (BUFFER_LIMIT + 1)))
    with pytest.raises(ProtocolError, match="more bytes"):
        await task


async def test_only_the_first_end_counts() -> None:
    stream, answer = asked()
    task = await waiting(answer)
    await in_a_callback(lambda: stream.data_received(b"one\rtwo\r"))
    answer.fail(LinkError("too late", code=LinkCode.TIMEOUT))
    stream.data_received(b"three\r")
    assert await task == b"one"
    assert stream.buffer == b"two\rthree\r"


async def test_cancelling_the_task_ends_the_wait_and_bytes_no_longer_do() -> None:
    stream, answer = asked()
    task = await waiting(answer)
    task.cancel("enough")
    stream.data_received(b"one\r")
    assert not task.done()
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert stream.buffer == b"one\r"


async def test_a_task_that_was_cancelled_before_it_waited_does_not_wait() -> None:
    _, answer = asked()

    async def wait() -> bytes:
        return await answer

    task = asyncio.create_task(wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_it_holds() -> None:
    _, answer = asked()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await answer
