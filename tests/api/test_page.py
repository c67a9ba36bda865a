"""The live page: its files, and what a real browser makes of it."""

import asyncio
import contextlib
import re
from importlib.resources import files

import pytest
from aiohttp import ClientSession

from meterd.api.app import Rules, serve
from meterd.api.routes import FILES
from meterd.model.clock import SystemClock
from tests.api.browser import dump, opened
from tests.api.conftest import served
from tests.api.fake import good, home

PAGES = ("index.html", "docs.html")
WEB = files("meterd.api").joinpath("web")
DRAWN = "document.querySelectorAll('.spark .line').length >= 6"
NAMES = sorted(entry.name for entry in WEB.iterdir() if entry.is_file())


def test_every_file_is_in_the_table_and_the_table_names_no_other() -> None:
    served = [route.path.removeprefix("/web/") for route in FILES]
    assert sorted([*served, *PAGES]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_page_needs_no_other_host_and_nothing_inline(name: str) -> None:
    text = WEB.joinpath(name).read_text(encoding="utf-8")
    hosts = set(re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+", text)) - {"http://www.w3.org"}
    assert hosts == set()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=\"|style=\"|\beval\(|innerHTML", text)


def test_what_the_page_and_its_modules_ask_for_exists() -> None:
    wanted = set()
    for page in PAGES:
        wanted |= set(re.findall(r'"web/([\w.-]+)"', WEB.joinpath(page).read_text()))
    for name in NAMES:
        wanted |= set(re.findall(r'from "\./([\w.-]+)"', WEB.joinpath(name).read_text()))
    assert wanted == set(NAMES) - set(PAGES)


async def test_an_unchanged_file_is_not_sent_again(client: ClientSession) -> None:
    async with client.get("/web/app.js") as reply:
        etag = reply.headers["ETag"]
        assert reply.headers["Content-Type"] == "text/javascript; charset=utf-8"
    async with client.get("/web/app.js", headers={"If-None-Match": etag}) as reply:
        assert (reply.status, await reply.read()) == (304, b"")


@pytest.mark.needs("chromium")
async def test_a_browser_shows_values_with_units_states_alerts_and_gaps() -> None:
    site = home(SystemClock().now_ms(), outage=True)
    hole = site.started + 3_600_000 - 450_000
    site.reader.points = lambda device, ms: None if abs(ms - hole) < 60_000 else float(ms % 7)
    async with served(site) as running:
        dom = await dump(running.url, DRAWN)
    text = re.sub(r"<[^>]+>", " ", dom).replace("\u202f", " ")
    text = re.sub(r"\s+", " ", text)
    for shown in (
        *("Home", "main", "3.41 kW", "−2.14 kW", "Exporting", "229.8 · 230.4 · 231.2 V"),
        *("18,234.6 kWh", "On battery", "37 %", "83 % · 25.3 V", "Live"),
        *(
            "Down",
            "timeout: no answer from unit 3",
            "last known",
            "Stale",
            "A value is due every 5 s",
        ),
        *("on-battery", "gone", "no answer"),
    ):
        assert shown in text, f"{shown!r} is not on the page: {text}"
    assert dom.count('class="line"') == 2 * len(site.known), "the gap was drawn over"


@pytest.mark.needs("chromium")
async def test_names_from_outside_stay_text() -> None:
    site = home(SystemClock().now_ms())
    site.name = "<img src=x onerror=alert(1)>"
    async with served(site) as running:
        dom = await dump(running.url, DRAWN)
    assert "&lt;img src=x" in dom
    assert "<img" not in dom


# Every text on the page with its size, and its contrast to the ground that is under it.
MEASURE = """(() => {
  const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")]
    .filter((node) => node.checkVisibility() && node.getClientRects().length
      && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return texts.map((node) => {
    const style = getComputedStyle(node);
    const [a, b] = [light(rgba(style.color)), light(ground(node))].sort((x, y) => y - x);
    const [box, tile] = [node.getBoundingClientRect(), node.closest(".tile")];
    const inside = !tile || box.bottom <= tile.getBoundingClientRect().bottom;
    return { text: node.textContent, size: parseFloat(style.fontSize), inside,
             contrast: (a + 0.05) / (b + 0.05) };
  });
})()"""
SCROLLS = """[document.documentElement, document.querySelector("main")].some((node) =>
  node.scrollHeight > node.clientHeight || node.scrollWidth > node.clientWidth)"""


@pytest.mark.needs("chromium")
async def test_six_devices_can_be_read_without_scrolling_in_both_sizes_and_schemes() -> None:
    site = home(SystemClock().now_ms(), outage=True)
    async with served(site) as running, opened(running.url) as page:
        for width, height in ((800, 480), (1280, 800)):
            await page.size(width, height)
            for scheme in ("dark", "light"):
                await page.scheme(scheme)
                await page.until("document.querySelectorAll('.spark .line').length >= 6")
                texts = await page.run(MEASURE)
                assert len(texts) > 60
                assert not await page.run(SCROLLS)
                assert [t for t in texts if t["size"] < 14] == []
                assert [t for t in texts if t["contrast"] < 4.5] == []
                assert [t for t in texts if not t["inside"]] == []


@pytest.mark.needs("chromium")
async def test_a_server_that_goes_away_is_said_to_be_lost_and_found_again() -> None:
    site = home(SystemClock().now_ms())
    connection = "String(document.getElementById('connection')?.textContent)"
    async with contextlib.AsyncExitStack() as first:
        running = await first.enter_async_context(served(site))
        async with opened(running.url) as page:
            await page.until(f"{connection} === 'Live'")
            await first.aclose()
            await page.until(f"{connection}.startsWith('Connection lost')")
            async with served(site, running.port):
                await page.until(f"{connection} === 'Live'")


@pytest.mark.needs("chromium")
async def test_a_poll_is_on_the_page_before_anybody_asks_for_it() -> None:
    site = home(SystemClock().now_ms())
    number = "String(document.querySelector('#device-main')?.closest('.tile').innerText)"
    async with served(site) as running, opened(running.url) as page:
        await page.until(f"{number}.includes('3.41')")
        await page.run("window.asked = 0; window.fetch = () => Promise.reject(++window.asked)")
        # Whatever is asked fails from now on: only the stream can tell.
        async with asyncio.timeout(60):
            while "7.89" not in await page.run(number):
                site.take(good("main", SystemClock().now_ms(), {"active_power": (7890.0, "W")}))
                await asyncio.sleep(0.3)
        assert await page.run("document.getElementById('connection').textContent") == "Live"


@pytest.mark.needs("chromium")
async def test_behind_a_proxy_with_a_path_of_its_own_the_page_works() -> None:
    rules = Rules(base="/meterd")
    running = await serve(home(SystemClock().now_ms()), "127.0.0.1", 0, rules=rules)
    connection = "String(document.getElementById('connection')?.textContent)"
    try:
        async with opened(f"{running.url}/meterd") as page:
            await page.until(f"{connection} === 'Live'")
            await page.until("document.querySelectorAll('.tile').length === 6")
            asked = await page.run(
                "performance.getEntriesByType('resource').map((e) => new URL(e.name).pathname)"
            )
    finally:
        await running.close()
    assert [path for path in asked if not path.startswith("/meterd/")] == []
