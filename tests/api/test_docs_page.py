"""`/docs` in a real browser: all is told, nothing is fetched elsewhere, requests can be tried."""

import pytest

from meterd.api.app import ServingRules, serve
from meterd.api.routes import ROUTES
from meterd.model.clock import SystemClock
from tests.api.browser import Page, opened
from tests.api.conftest import served
from tests.api.fake import home
from tests.api.test_page import MEASURE

LISTED = [route for route in ROUTES if route.listed]
DRAWN = f"document.querySelectorAll('article').length === {len(LISTED)}"
TRY = "document.querySelector('#{} form').requestSubmit()"
STATUS = "String(document.querySelector('#{} .status')?.textContent)"
WIDE = """[...document.querySelectorAll("main, main *, #contents")]
  .filter((n) => n.scrollWidth > n.clientWidth + 1 && n.clientWidth)
  .map((n) => n.outerHTML.slice(0, 90))"""


async def _open_all(page: Page) -> None:
    await page.until(DRAWN)
    await page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    await page.until(f"document.querySelectorAll('.inside form').length === {len(LISTED)}")


@pytest.mark.needs("chromium")
async def test_every_request_is_told_and_can_be_read_in_both_sizes_and_schemes() -> None:
    site = home(SystemClock().now_ms())
    async with served(site) as running, opened(f"{running.url}/docs") as page:
        await _open_all(page)
        text = await page.run("document.body.innerText")
        for route in LISTED:
            assert route.path in text
            assert route.summary in text
        for width, height in ((1280, 800), (800, 480)):
            await page.size(width, height)
            assert await page.run(WIDE) == []
            for scheme in ("dark", "light"):
                await page.scheme(scheme)
                texts = await page.run(MEASURE)
                assert [t for t in texts if t["size"] < 13] == []
                assert [t for t in texts if t["contrast"] < 4.5] == []


@pytest.mark.needs("chromium")
async def test_a_request_can_be_tried_behind_a_path_of_a_proxy() -> None:
    running = await serve(
        home(SystemClock().now_ms()), "127.0.0.1", 0, rules=ServingRules(base="/meterd")
    )
    try:
        async with opened(f"{running.url}/meterd/docs#get_api_v1_range") as page:
            await page.until("document.querySelector('#get_api_v1_range details')?.open")
            form = "document.querySelector('#get_api_v1_range form').elements"
            await page.run(f"{form}.device.value = 'main, solar'; {form}.start.value = 'soon'")
            await page.run(TRY.format("get_api_v1_range"))
            await page.until(f"{STATUS.format('get_api_v1_range')}.startsWith('400')")
            await page.run(f"{form}.start.value = 'now-1h'")
            await page.run(TRY.format("get_api_v1_range"))
            await page.until(f"{STATUS.format('get_api_v1_range')}.startsWith('200')")
            status = await page.run(STATUS.format("get_api_v1_range"))
            asked = await page.run(
                "performance.getEntriesByType('resource').map((e) => new URL(e.name).pathname)"
            )
    finally:
        await running.close()
    assert "/meterd/api/v1/range?device=main&device=solar&start=now-1h" in status
    assert [path for path in asked if not path.startswith("/meterd/")] == []
