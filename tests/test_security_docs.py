"""docs/security.md: its configurations load, and its commands do what it says, in its order."""

import asyncio
import json
import os
import re
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import meterd
from meterd.config.load import load
from meterd.drivers import registry
from tests.cli.command import COMMAND, environment, run
from tests.cli.lines import judge
from tests.e2e.running import end, eventually

PAGE = (Path(meterd.__file__).parent.parent / "docs" / "security.md").read_text("utf-8")
PASSWORD = "correct horse"
REST = """\
devices: {ups: {driver: megatec, link: "serial:///dev/nowhere", interval: 1h}}
store: {url: "sqlite:///FOLDER/meterd.db"}
"""
needs = pytest.mark.needs("openssl", "curl")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def moved(text: str, folder: Path) -> str:
    """/etc/meterd is a folder of the test's own."""
    return text.replace("/etc/meterd", str(folder))


async def shell(line: str, folder: Path, **env: str) -> str:
    """What a line of the page prints."""
    line = re.sub(r"^meterd ", " ".join(COMMAND) + " ", moved(line, folder))
    ended = await run("sh", "-c", line, cwd=folder, env={**env, "no_proxy": "*"})
    assert ended.code == 0, f"{line}: {ended.err}"
    return ended.out


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[int]:
    """The port of a daemon with the page's configuration, on loopback, where all must log in."""
    log = folder / "stderr.txt"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "run", "-c", str(folder / "meterd.yaml")),
            stdin=DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd=folder,
            env=environment(),
        )

    async def look() -> int | None:
        assert process.returncode is None, log.read_text()
        found = re.search(r"listening on https://127.0.0.1:(\d+)", log.read_text())
        return int(found[1]) if found else None

    try:
        yield await eventually(look, "the daemon's port")
    finally:
        await end(process)


def test_it_is_short_and_its_lines_are_understood() -> None:
    assert len(PAGE.splitlines()) <= 130
    for line in re.findall(r"`(meterd [^`]+)`", PAGE):
        judge(line)
    for line in commands():
        if line.startswith("meterd "):
            judge(line)


def secrets(folder: Path) -> None:
    password = folder / "grafana-password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)


@needs
async def test_its_configurations_load(tmp_path: Path) -> None:
    secrets(tmp_path)
    await shell(commands()[0], tmp_path)
    path = tmp_path / "meterd.yaml"
    assert len(blocks("yaml")) == 2
    for block in blocks("yaml"):
        path.write_text(moved(block, tmp_path) + REST.replace("FOLDER", str(tmp_path)))
        made = load(path, options_of=registry.options_of, driver_names=registry.names(), environ={})
        assert made.api.users["grafana"].password == PASSWORD


@needs
async def test_its_commands_open_the_door_and_shut_it_again(tmp_path: Path) -> None:
    secrets(tmp_path)
    make, add, listed, *asks, revoke = commands()
    await shell(make, tmp_path)
    text = moved(blocks("yaml")[0], tmp_path).replace("0.0.0.0:8420", "127.0.0.1:0")
    text = text.replace("api:\n", "api:\n  login: always\n")
    (tmp_path / "meterd.yaml").write_text(text + REST.replace("FOLDER", str(tmp_path)))
    async with served(tmp_path) as port:
        here = f"--resolve nas.lan:{port}:127.0.0.1"

        async def ask(line: str) -> object:
            line = line.replace("curl ", f"curl -sS {here} ").replace(":8420/", f":{port}/")
            said = await shell(line, tmp_path, TOKEN=token, PASSWORD=PASSWORD)
            answer = json.loads(said)
            return answer.get("code", "samples" in answer)

        token = (await shell(add, tmp_path)).strip()
        assert (await shell(listed, tmp_path)).splitlines()[1].startswith("phone\tadmin\t")
        assert [await ask(line) for line in asks] == [True] * 3
        await shell(revoke, tmp_path)

        async def shut() -> bool | None:
            return (await ask(asks[0])) == "unauthorized" or None

        await eventually(shut, "the token is refused", 5.0)
        assert [await ask(line) for line in asks[1:]] == [True] * 2
    said = (tmp_path / "stderr.txt").read_text()
    assert token not in said
    assert PASSWORD not in said


@needs
async def test_without_anybody_who_could_log_in_it_does_not_start(tmp_path: Path) -> None:
    await shell(commands()[0], tmp_path)
    text = "api: {listen: '127.0.0.1:0', login: always}\n"
    (tmp_path / "meterd.yaml").write_text(text + REST.replace("FOLDER", str(tmp_path)))
    ended = await run(*COMMAND, "run", "-c", str(tmp_path / "meterd.yaml"), cwd=tmp_path)
    assert ended.code == os.EX_CONFIG
    assert "meterd token add NAME" in ended.err
    assert "Traceback" not in ended.err
