"""`meterd record` and `meterd simulate --replay`: what the field saw is seen again at home."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meterd.sim.faults import SimulatedFault
from meterd.sim.serve import serve_meter, serve_ups
from meterd.wire.recording import parse
from tests.cli.command import COMMAND, PATIENCE, beside, meterd, samples
from tests.cli.inside import inside

METER = "eastron_sdm120"


@asynccontextmanager
async def replayed(file: Path, *options: str) -> AsyncIterator[str]:
    """`meterd simulate --replay`, by its URL."""
    words: tuple[str | Path, ...] = (
        "simulate",
        "--replay",
        file,
        "--listen",
        "127.0.0.1:0",
        *options,
    )
    async with beside(*COMMAND, *words) as process:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        yield line.decode().strip()


async def test_a_recorded_meter_is_polled_again_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "meter.rec"
    async with serve_meter(METER, refresh=3600) as server:
        target = f"{METER}@{server.url}/1"
        done = await meterd("record", target, "--seconds", "0.5", "--out", file)
        seen = samples(await meterd("poll", target, "--format", "json"))
    assert (done.code, done.out) == (0, f"{file}\n")
    assert f"meterd simulate --replay {file}" in done.err
    found = parse(file.read_text("utf-8"), "meter.rec")
    assert found.head["link"] == server.url
    assert found.devices == (f"{METER} driver=modbus map={METER} unit=1",)
    async with replayed(file) as url:
        again = samples(await meterd("poll", f"{METER}@{url}/1", "--format", "json"))
    assert again == seen


async def test_a_fault_in_the_field_is_the_same_fault_at_home(tmp_path: Path) -> None:
    file = tmp_path / "fault.rec"
    async with serve_meter(METER, faults=[SimulatedFault("exception", number=4)]) as server:
        target = f"{METER}@{server.url}/1"
        done = await meterd("record", target, "--seconds", "0.5", "--out", file)
    assert "exception 4: server device failure; hint: " in done.err
    async with replayed(file) as url:
        again = await meterd("poll", f"{METER}@{url}/1")
    assert again.code == 5
    assert "exception 4: server device failure; hint: " in again.err


async def test_a_configuration_with_two_links_makes_two_files(tmp_path: Path) -> None:
    async with serve_meter(METER, framer="rtu") as meter, serve_ups() as ups:
        config = tmp_path / "meterd.yaml"
        config.write_text(
            "devices:\n"
            f"  main: {{driver: modbus, map: {METER}, link: '{meter.url}', interval: 1s}}\n"
            f"  ups: {{driver: megatec, link: '{ups.url}', interval: 1s}}\n",
            "utf-8",
        )
        done = await meterd(
            "record", "-c", config, "--seconds", "1", "--out", tmp_path / "site.rec"
        )
    assert done.code == 0, done.err
    files = [Path(line) for line in done.out.splitlines()]
    assert [file.name for file in files] == ["site-1.rec", "site-2.rec"]
    assert "# Q1" in files[1].read_text("utf-8")
    async with replayed(files[0]) as url:
        target = f"{METER}@{url.replace('?', '/1?')}"
        assert samples(await meterd("poll", target, "--format", "json"))["voltage.l1"]
    async with replayed(files[1], "--pty", str(tmp_path / "port")) as url:
        assert url == f"serial://{tmp_path / 'port'}"
        polled = await meterd("poll", f"megatec@{url}", "--format", "json")
    assert samples(polled)["input.voltage"]


def test_nothing_recorded_before_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.rec"
    file.write_text("precious", "utf-8")
    done = inside(capsys, "record", f"{METER}@tcp://127.0.0.1:1/1", "--out", str(file))
    assert done.code == 78
    assert "is there already" in done.err
    assert file.read_text("utf-8") == "precious"


def test_a_folder_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no" / "a.rec"
    done = inside(capsys, "record", f"{METER}@tcp://127.0.0.1:1/1", "--out", str(file))
    assert done.code == 78
    assert "there is no folder" in done.err


async def test_a_link_on_which_nothing_was_heard_is_a_failure(tmp_path: Path) -> None:
    words = ("--seconds", "0.3", "--out", str(tmp_path / "a.rec"))
    done = await meterd("record", f"{METER}@tcp://127.0.0.1:1/1", *words)
    assert "refused" in done.err
    assert (done.code, done.out) == (1, f"{tmp_path / 'a.rec'}\n")


def test_what_is_no_recording_is_not_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.rec"
    for text, says in (
        ("hello\n", "no recording"),
        ("# meterd recording 1\n", "nothing to replay"),
    ):
        file.write_text(text, "utf-8")
        done = inside(capsys, "simulate", "--replay", str(file))
        assert done.code == 78
        assert says in done.err
    both = inside(capsys, "simulate", "ups", "--replay", str(file))
    assert both.code == 2
