"""`meterd simulate`: what it serves, how it misbehaves, and what it does not understand."""

import signal
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, meterd, samples
from tests.cli.inside import inside
from tests.e2e.running import first_line

CONFIGURATION = 78


async def test_a_meter_tells_its_url_on_stdout_and_answers_there() -> None:
    words = ("simulate", "eastron_sdm120", "--listen", "127.0.0.1:0", "--unit", "5")
    async with first_line(*COMMAND, *words, "--framer", "rtu") as url:
        assert url.startswith("tcp://127.0.0.1:")
        assert url.endswith("?framer=rtu")
        place, query = url.split("?")
        polled = await meterd("poll", f"eastron_sdm120@{place}/5?{query}", "--format", "json")
    assert 200 < (samples(polled)["voltage.l1"] or 0) < 260


async def test_a_ups_is_where_it_was_asked_to_be(tmp_path: Path) -> None:
    port = tmp_path / "ups"
    async with first_line(*COMMAND, "simulate", "ups", "--pty", port) as url:
        assert str(port) in url
        polled = await meterd("poll", f"megatec@serial://{port}", "--format", "json")
    assert samples(polled)["ups.status.ol"] == 1


async def test_a_fault_shows_as_what_it_is() -> None:
    words = ("simulate", "eastron_sdm120", "--listen", "127.0.0.1:0", "--fault", "exception:4")
    async with first_line(*COMMAND, *words) as url:
        polled = await meterd("poll", f"eastron_sdm120@{url}/1", "--format", "json")
    (device,) = polled.document["devices"]
    assert device["error"]["code"] == "exception_4"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_when_it_is_told_to(number: signal.Signals) -> None:
    words = ("simulate", "eastron_sdm120", "--listen", "127.0.0.1:0")
    async with first_line(*COMMAND, *words, end_with=number) as url:
        assert url


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("eastron_sdm631x",), "eastron_sdm630"),
        (("ups", "--fault", "bogus"), "timeout, truncate"),
        (("ups", "--outage", "soon"), "30s"),
        (("eastron_sdm630", "--fault", "late:lots"), "late:0.2"),
        (("eastron_sdm630", "--fault", "nak", "--listen", "127.0.0.1:0"), "wrong_unit"),
        (("eastron_sdm630", "--listen", "here"), "HOST:PORT"),
        (("ups", "--pty", "/nowhere/ups"), "/nowhere/ups cannot be made a link: No such file"),
        (("ups", "--pty", "/dev/null"), "choose another path"),
    ],
)
def test_what_it_cannot_serve_is_said(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "simulate", *words)
    assert (done.code, done.out) == (CONFIGURATION, "")
    assert says in done.err
