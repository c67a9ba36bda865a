"""Pages of other sites: those that are configured may read with a token, all others may not."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meterd.api.app import Running, ServingRules
from meterd.api.cors import Cors
from tests.api.locked import LATEST, Reply, ask, basic, locked, scoped, token

__all__ = ["scoped"]

DASH, OTHER = "https://dash.example", "https://evil.example"
RULES = ServingRules(cors=Cors(frozenset({DASH, "http://nas.lan:3000"})))
PREFLIGHT: dict[str, Any] = {"Access_Control_Request_Method": "GET"}
PATHS = (LATEST, "/api/v1/stream", "/prometheus/api/v1/query", "/metrics", "/api/v1/nothing")


@contextlib.asynccontextmanager
async def site(folder: Path | None = None) -> AsyncIterator[Running]:
    async with locked(RULES, folder=folder) as running:
        yield running


def allowed(reply: Reply) -> list[str]:
    """Every header that lets a page of another site read."""
    return [f"{k}: {v}" for k, v in reply.fields if k.startswith("access-control-allow")]


async def test_a_listed_page_may_ask_before_it_asks() -> None:
    async with site() as running:
        for path in PATHS:
            reply = await ask(running, path, "OPTIONS", Origin=DASH, **PREFLIGHT)
            assert (reply.status, reply.body) == (204, b"")
            assert reply.all("access-control-allow-origin") == [DASH]
            assert "Authorization" in reply.all("access-control-allow-headers")[0]
            assert "DELETE" in reply.all("access-control-allow-methods")[0]
            assert reply.all("access-control-allow-credentials") == []
            assert reply.all("access-control-allow-private-network") == []
            assert "Origin" in reply.all("vary")[0]
        near: dict[str, Any] = {**PREFLIGHT, "Access_Control_Request_Private_Network": "true"}
        reply = await ask(running, LATEST, "OPTIONS", Origin=DASH, **near)
        assert reply.all("access-control-allow-private-network") == ["true"]


@pytest.mark.parametrize(
    "origin",
    [
        *(OTHER, "null", "*", "https://dash.example.evil.example", "http://dash.example"),
        *("https://dash.example:8443", "https://dash.example/", "https://DASH.example", ""),
        "http://nas.lan",
    ],
)
async def test_any_other_page_may_not(origin: str, tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        key = token(tmp_path, "dash")
        before = await ask(running, LATEST, "OPTIONS", Origin=origin, **PREFLIGHT)
        after = await ask(running, LATEST, Origin=origin, Authorization=key)
        assert (before.status, allowed(before)) == (405, [])
        assert (after.status, allowed(after)) == (200, [])
        assert "Origin" in after.all("vary")[0]


async def test_answers_and_refusals_can_be_read_by_a_listed_page(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        key = token(tmp_path, "dash")
        for path, header, status in (
            (LATEST, key, 200),
            (LATEST, "", 401),
            (f"{LATEST}?nonsense=1", key, 400),
            ("/prometheus/api/v1/query?query=1", key, 200),
            ("/prometheus/api/v1/query", "", 401),
            ("/api/v1/export", key, 200),
            ("/api/v1/nothing", "", 404),
        ):
            more: dict[str, Any] = {"Authorization": header} if header else {}
            reply = await ask(running, path, Origin=DASH, **more)
            assert (reply.status, reply.all("access-control-allow-origin")) == (status, [DASH]), (
                path
            )
            assert reply.all("access-control-allow-credentials") == []


async def test_where_none_is_listed_no_page_may_read() -> None:
    async with locked(login_always=False) as running:
        before = await ask(running, LATEST, "OPTIONS", Origin=DASH, **PREFLIGHT)
        after = await ask(running, LATEST, Origin=DASH)
        assert (before.status, allowed(before)) == (405, [])
        assert (after.status, allowed(after)) == (200, [])


@pytest.mark.usefixtures("scoped")
async def test_a_listed_page_changes_what_its_own_login_may(tmp_path: Path) -> None:
    async with site(tmp_path) as running:
        admin, reader = token(tmp_path, "a", "read", "admin"), token(tmp_path, "r")
        for origin, header, status in (
            (DASH, admin, 200),
            (DASH, basic("chief"), 200),
            (DASH, reader, 403),
            (OTHER, admin, 403),
        ):
            cross: dict[str, Any] = {
                "Origin": origin,
                "Sec_Fetch_Site": "cross-site",
                "Authorization": header,
            }
            cross["Sec_Fetch_Site"] = "cross-site"
            assert (await ask(running, "/test/admin", "POST", **cross)).status == status
    async with locked(RULES, login_always=False) as running:
        reply = await ask(running, "/test/admin", "POST", Origin=DASH)
        assert (reply.status, reply.json["code"]) == (403, "foreign_origin")
