"""The live page behind a login, in a real browser."""

import pytest

from meterd.api.auth.passwords import User, hashed
from meterd.model.clock import SystemClock
from tests.api.browser import opened
from tests.api.locked import ANNA, PASSWORD, ask, locked

CONNECTION = "String(document.getElementById('connection')?.textContent)"
HASHED = User("anna", ANNA.scopes, slow=hashed(PASSWORD))


@pytest.mark.needs("chromium")
@pytest.mark.parametrize(("user", "first"), [(ANNA, "Digest"), (HASHED, "Basic")])
async def test_a_browser_that_was_given_the_password_shows_the_page_and_goes_on(
    user: User, first: str
) -> None:
    async with locked(clock=SystemClock(), users={"anna": user}) as running:
        assert (await ask(running)).all("www-authenticate")[0].startswith(first)
        place = running.url.removeprefix("http://")
        # The user's answer to the browser's question, which a headless one cannot be asked.
        async with opened(f"http://anna:correct%20horse@{place}/openapi.json") as page:
            await page.until("location.pathname === '/openapi.json'")
            await page.send("Page.navigate", url=f"{running.url}/")
            await page.until(f"{CONNECTION} === 'Live'")
            assert await page.run("fetch('/api/v1/alerts').then((reply) => reply.status)") == 200
