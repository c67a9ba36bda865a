"""schemathesis against a served site: briefly in `make test`, at length in `make test-long`."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import NamedTuple

from meterd.alerts.engine import Alerts
from meterd.alerts.rule import Rule
from meterd.api.app import Running
from tests.api.conftest import FixedClock
from tests.api.fake import NOW, good, home
from tests.api.locked import locked, token
from tests.api.stored import StoredSite, stored_site

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
# 431 is what a query gets that is longer than any request line may be.
_REFUSED = [400, 401, 403, 404, 405, 409, 413, 415, 422, 431]
PHASES = "examples,coverage,fuzzing,stateful"


class LeapingClock(FixedClock):
    """Minutes pass between any two looks: who guesses passwords never has to wait."""

    def monotonic(self) -> float:
        self.leaps = getattr(self, "leaps", 0) + 1
        return super().monotonic() + 300.0 * self.leaps


class Judged(NamedTuple):
    """What it found: exit code, cases, failures, and all that it said."""

    code: int
    cases: int
    text: str


def filled(site: StoredSite) -> StoredSite:
    """Devices, an alert that fires, and a command that is allowed."""
    known = home()
    site.known, site.latest = known.known, known.latest
    site.alerting = Alerts([Rule("hot", "temperature", above=60.0)], {}, clock=FixedClock())
    site.alerting.take(good("main", NOW, {"temperature": (70.0, "°C")}))
    site.alerts = site.alerting.active  # type: ignore[method-assign]
    return site


async def judge(folder: Path, examples: int, seed: int, phases: str = PHASES) -> Judged:
    """So many examples for each request, with a login that may do everything."""
    key = token(folder, "judge", "read", "admin", "command")
    async with (
        stored_site(folder / "store.db") as site,
        locked(folder=folder, site=filled(site), clock=LeapingClock()) as running,
    ):
        return await _run(running, key, folder, examples, seed, phases)


async def _run(
    running: Running, key: str, folder: Path, examples: int, seed: int, phases: str
) -> Judged:
    # A stream has no end, and schemathesis would wait for it: tests/api/live covers it.
    rules = f"[checks.negative_data_rejection]\nexpected-statuses = {_REFUSED}\n"
    folder.joinpath("schemathesis.toml").write_text(rules)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{running.url}/openapi.json", "-H", f"Authorization: {key}"),
        *("--exclude-path", "/api/v1/stream", "--checks", ",".join(CHECKS)),
        *("--max-examples", str(examples), "--seed", str(seed), "--phases", phases),
        *("--workers", "1", "--no-color", "--generation-database", "none"),
        cwd=folder,
        stdout=PIPE,
        stderr=STDOUT,
    )
    out, _ = await process.communicate()
    text = out.decode(errors="replace")
    cases = re.search(r"([\d,]+) generated", text)
    return Judged(process.returncode or 0, int(cases[1].replace(",", "")) if cases else 0, text)
