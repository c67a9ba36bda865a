"""A site behind a lock: users, tokens, routes of every scope, and ways to ask it."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from meterd.api import app
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.app import Running, ServingRules, serve
from meterd.api.auth import tokens
from meterd.api.auth.authenticator import Access
from meterd.api.auth.passwords import User, ha1
from meterd.api.query import NoQuery
from meterd.api.route import Route
from meterd.api.routes import ROUTES
from meterd.model.clock import Clock
from tests.api.fake import FakeSite, home

PASSWORD = "correct horse"
ANNA = User("anna", frozenset({"read"}), ha1=ha1("anna", PASSWORD))
CHIEF = User("chief", frozenset({"read", "admin"}), ha1=ha1("chief", PASSWORD))
USERS = {"anna": ANNA, "chief": CHIEF}
LATEST = "/api/v1/latest"


async def _echo(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return as_json({"who": call.who, "base": call.base, "body": call.body.decode()})


SCOPED = tuple(
    Route(f"/test/{scope}", scope, _echo, method=method, scope=scope, listed=False)  # type: ignore[arg-type]
    for scope, method in [
        ("read", "GET"),
        ("open", "GET"),
        ("admin", "POST"),
        ("command", "POST"),
    ]
)


@pytest.fixture
def scoped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes of every scope that tell who asked."""
    monkeypatch.setattr(app, "ROUTES", (*ROUTES, *SCOPED))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, headers in lower case and in order."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


async def ask(
    running: Running, path: str = LATEST, method: str = "GET", body: bytes = b"", **headers: str
) -> Reply:
    """One request; underscores in names of headers stand for hyphens."""
    fields = {"Host": "localhost", "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    if body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    return await say(running, "\r\n".join(lines).encode() + body)


async def say(running: Running, data: bytes) -> Reply:
    """Bytes in, all that comes back until the end."""
    reader, writer = await asyncio.open_connection(running.host, running.port)
    writer.write(data)
    async with asyncio.timeout(60):
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    first, *rest = head.decode().split("\r\n")
    fields = tuple((k.lower(), v) for k, _, v in (line.partition(": ") for line in rest))
    return Reply(int(first.split()[1]), fields, content)


def basic(name: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@contextlib.asynccontextmanager
async def locked(
    rules: ServingRules | None = None,
    *,
    clock: Clock | None = None,
    folder: Path | None = None,
    site: FakeSite | None = None,
    **access: Any,
) -> AsyncIterator[Running]:
    """A server that asks everybody for a login, unless `access` says otherwise."""
    whole = Access(login_always=True, users=USERS, tokens=folder and folder / "meterd.tokens")
    rules = replace(rules or ServingRules(), access=replace(whole, **access))
    running = await serve(site or home(), "127.0.0.1", 0, clock=clock, rules=rules)
    try:
        yield running
    finally:
        await running.close()


def token(folder: Path, name: str, *scopes: str) -> str:
    """An Authorization header with a token of its own."""
    return "Bearer " + tokens.add(folder / "meterd.tokens", name, scopes or ("read",), 1)
