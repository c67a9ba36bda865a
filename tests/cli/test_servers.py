"""Doors: when the API may be opened at all, and what a reload changes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from meterd.api.auth import tokens
from meterd.api.auth.passwords import hashed
from meterd.cli.servers import Servers, check_login
from meterd.config.api import ApiSettings, UserSettings
from meterd.config.settings import Settings, StoreSettings
from meterd.errors import ConfigError, MeterdError
from tests.api.fake import home
from tests.api.locked import basic

LAN = "192.0.2.1:8420"
ANNA = {"anna": UserSettings(password="correct horse")}


@pytest.mark.parametrize(
    ("api", "is_open"),
    [
        ({}, True),
        ({"login": "always"}, False),
        ({"login": "always", "users": ANNA}, True),
        ({"listen": LAN, "insecure": True}, True),
        ({"listen": LAN, "insecure": True, "login": "always"}, False),
        ({"listen": LAN, "insecure": True, "users": ANNA}, True),
    ],
)
def test_it_does_not_open_where_nobody_could_log_in(
    tmp_path: Path, api: dict[str, Any], is_open: bool
) -> None:
    path = tmp_path / "meterd.tokens"
    settings = ApiSettings(**api)
    if not is_open:
        with pytest.raises(ConfigError, match="meterd token add NAME"):
            check_login(settings, path)
        tokens.add(path, "a", ("read",), 1)
    check_login(settings, path)


def test_a_damaged_file_of_tokens_is_told_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "meterd.tokens"
    path.write_text("{")
    path.chmod(0o600)
    with pytest.raises(MeterdError, match="no file of tokens"):
        check_login(ApiSettings(login="always"), path)


def settings(tmp_path: Path, **api: Any) -> Settings:
    store = StoreSettings(url=f"sqlite:///{tmp_path}/meterd.db")
    return Settings(store=store, api=ApiSettings(listen="127.0.0.1:0", **api))


async def status(url: str, login: str = "") -> int:
    headers = {"Authorization": login} if login else {}
    async with (
        ClientSession() as client,
        client.get(f"{url}/api/v1/latest", headers=headers) as reply,
    ):
        return reply.status


async def test_a_reload_changes_who_may_come_in_on_the_same_port(tmp_path: Path) -> None:
    doors = Servers(home())
    await doors.open(settings(tmp_path))
    url = doors.url
    assert await status(url) == 200
    asked = asyncio.gather(*(status(url) for _ in range(20)))
    await doors.open(settings(tmp_path, users=ANNA, login="always"))
    assert doors.url == url
    assert set(await asked) <= {200, 401}
    assert await status(url) == 401
    await doors.open(settings(tmp_path))
    assert (doors.url, await status(url)) == (url, 200)
    await doors.close()


async def test_a_reload_that_would_shut_everybody_out_changes_nothing(tmp_path: Path) -> None:
    doors = Servers(home())
    await doors.open(settings(tmp_path))
    with pytest.raises(ConfigError):
        await doors.open(settings(tmp_path, login="always"))
    assert await status(doors.url) == 200
    await doors.close()


async def test_users_and_tokens_of_the_settings_open_it(tmp_path: Path) -> None:
    secret = tokens.add(tmp_path / "meterd.tokens", "a", ("read",), 1)
    bob = {"bob": UserSettings(password_hash=hashed("correct horse"))}
    doors = Servers(home())
    await doors.open(settings(tmp_path, users=ANNA | bob, login="always"))
    assert await status(doors.url) == 401
    assert await status(doors.url, f"Bearer {secret}") == 200
    assert await status(doors.url, basic("anna")) == 200
    assert await status(doors.url, basic("bob")) == 200
    await doors.close()
