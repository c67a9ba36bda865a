"""Log lines that strangers cause: few, short, and on one line each."""

import logging
from typing import Any

import pytest

from meterd.api.log_rate_limit import LogRateLimit
from meterd.testing import FakeClock
from tests.api.conftest import FixedClock, served
from tests.api.fake import home
from tests.api.locked import ask


def test_one_line_a_second_tells_how_many_it_stands_for() -> None:
    clock = FakeClock()
    quiet = LogRateLimit(clock)
    assert [quiet.ask() for _ in range(4)] == ["", None, None, None]
    clock.pass_by(1.0)
    assert quiet.ask() == " (and 3 more like it)"
    clock.pass_by(1.0)
    assert quiet.ask() == ""


async def test_a_flood_of_failures_is_one_traceback_with_its_path_escaped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = home()

    def broken() -> Any:
        raise ZeroDivisionError

    site.devices = broken  # type: ignore[method-assign]
    path = "/api/v1/devices/a%0a%1b%5b31mERROR" + "x" * 3000
    with caplog.at_level(logging.INFO):
        async with served(site, clock=FixedClock()) as running:
            replies = [await ask(running, path) for _ in range(20)]
    assert {reply.status for reply in replies} == {500}
    assert len(caplog.records) <= 2
    message = caplog.records[0].getMessage()
    assert len(message) < 150
    assert message.isprintable()
