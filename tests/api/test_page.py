"""The live page: its files, and what a real browser makes of it."""

import asyncio
import contextlib
import re
from dataclasses import replace
from importlib.resources import files

import pytest
from aiohttp import ClientSession

from meterd.alerts.engine import Alerts
from meterd.alerts.rule import Rule
from meterd.alerts.silences import Silence
from meterd.api.app import ServingRules, serve
from meterd.api.routes import FILES
from meterd.model.alert import AlertState
from meterd.model.clock import SystemClock
from tests.api.browser import dump, opened
from tests.api.conftest import served
from tests.api.fake import FakeDevice, FakeSite, good, home

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
        *("Home", "main", "3.41 kW", "2.14 kW", "Exporting", "229.8 · 230.4 · 231.2 V"),
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
    rules = ServingRules(base="/meterd")
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


def alarmed(count: int) -> FakeSite:
    """A home where rules fire: `count` of them, on all of its devices, and one has a text."""
    now = SystemClock().now_ms()
    site = home(now)
    devices = [device.id for device in site.known]
    rules = [
        Rule(
            name=f"overvoltage-{number}",
            quantity="voltage.l1",
            device=(devices[number % len(devices)],),
            above=200,
            severity="critical" if number == 1 else "warning",
            text="Call the grid operator" if number == 0 else "",
        )
        for number in range(count)
    ]
    site.alerting = Alerts(rules, {}, clock=SystemClock())
    for device in devices:
        site.alerting.take(good(device, now, {"voltage.l1": (254.0, "V")}))
    site.firing = site.alerting.active()
    return site


CUT = """[...document.querySelectorAll(".alert strong, .alert .device")]
  .filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.textContent)"""
SHOWN = "[...document.querySelectorAll('.alert strong')].map((node) => node.textContent)"


@pytest.mark.needs("chromium")
async def test_of_many_alerts_each_has_its_name_and_none_is_out_of_reach() -> None:
    async with served(alarmed(23)) as running, opened(running.url) as page:
        for width, height in ((1280, 800), (800, 480), (390, 844)):
            await page.size(width, height)
            await page.until("document.querySelector('#alerts .more') !== null")
            await page.until(f"({CUT}).length === 0")
            few = await page.run(SHOWN)
            assert few[0] == "overvoltage-1", "the critical one comes first"
            more = await page.run("document.querySelector('#alerts .more').textContent")
            assert more == f"+ {23 - len(few)} more"
            await page.run("document.querySelector('#alerts .more').click()")
            assert sorted(await page.run(SHOWN)) == sorted(f"overvoltage-{n}" for n in range(23))
            assert await page.run(CUT) == []
            await page.run("document.querySelector('#alerts .more').click()")
        texts = await page.run("document.getElementById('alerts').textContent")
        assert "voltage.l1 is 254 V" in texts


@pytest.mark.needs("chromium")
async def test_a_rules_text_is_shown_and_what_somebody_knows_looks_known() -> None:
    site = alarmed(3)
    known, quiet = (
        next(one for one in site.firing if one.rule == f"overvoltage-{n}") for n in (1, 2)
    )
    site.alerting.ack(known.id, "ann", "")
    now = SystemClock().now_ms()
    site.alerting.silence(Silence("", now, now + 3_600_000, rule=quiet.rule))
    lines = "[...document.querySelectorAll('.alert')].map((node) => node.textContent)"
    async with served(site) as running, opened(running.url) as page:
        await page.size(1280, 800)
        await page.until("document.querySelectorAll('.alert').length === 3")
        new, *others = await page.run(lines)
        assert "overvoltage-0" in new
        assert "Call the grid operator" in new
        assert [line for line in others if "acknowledged by ann" in line and known.rule in line]
        assert [line for line in others if "silenced" in line and quiet.rule in line]
        # Their devices look as they do without an alert; that of the new one does not.
        badges = "Object.fromEntries([...document.querySelectorAll('.tile')].map((tile) =>"
        badges += " [tile.querySelector('.name').textContent, tile.dataset.alert]))"
        await page.until("document.querySelectorAll('.tile').length === 6")
        tiles = await page.run(badges)
        devices = {one.rule: one.device for one in site.firing}
        assert tiles[devices["overvoltage-0"]] == "warning"
        assert tiles[known.device] == tiles[quiet.device] == ""


@pytest.mark.needs("chromium")
async def test_alerts_that_come_and_go_while_the_page_is_open_are_followed() -> None:
    site = alarmed(3)
    ended, left, *others = site.firing
    count = "document.querySelectorAll('.alert').length === {}"
    async with served(site) as running, opened(running.url) as page:
        await page.size(1280, 800)
        await page.until(count.format(3))
        # One is resolved, one is listed no more; the stream tells of these two only.
        site.firing = [replace(ended, state=AlertState.RESOLVED), *others]
        await page.until(count.format(1))
        assert await page.run(SHOWN) == [others[0].rule]
        site.firing = [left, *site.firing]
        await page.until(count.format(2))


@pytest.mark.needs("chromium")
async def test_a_device_with_a_critical_alert_is_not_simply_up() -> None:
    site = alarmed(2)
    critical = next(one for one in site.firing if one.severity == "critical")
    async with served(site) as running, opened(running.url) as page:
        tile = f"document.getElementById('device-{critical.device}')?.closest('.tile')"
        await page.until(f"{tile}?.dataset.alert === 'critical'")
        badge = await page.run(f"{tile}.querySelector('.badge').innerText")
        assert badge.strip() == critical.rule


@pytest.mark.needs("chromium")
async def test_a_disabled_device_takes_no_tile() -> None:
    site = home(SystemClock().now_ms())
    site.add(FakeDevice("spare", enabled=False))
    async with served(site) as running, opened(running.url) as page:
        await page.until("document.querySelectorAll('.tile').length === 6")
        await page.until("document.getElementById('disabled').textContent === 'Disabled: spare'")
        assert "1 disabled" in await page.run("document.getElementById('summary').textContent")


@pytest.mark.needs("chromium")
async def test_nothing_is_fresh_while_the_server_is_silent() -> None:
    site = home(SystemClock().now_ms())
    words = "[...document.querySelectorAll('.badge')].map((node) => node.innerText.trim())"
    async with contextlib.AsyncExitStack() as first:
        running = await first.enter_async_context(served(site))
        async with opened(running.url) as page:
            await page.until(f"{words}.includes('Up')")
            await first.aclose()
            await page.until("document.body.classList.contains('lost')")
            await page.until(f"{words}.every((word) => word === 'Unknown')")


@pytest.mark.needs("chromium")
async def test_a_line_of_power_begins_at_zero_and_says_its_axis() -> None:
    site = home(SystemClock().now_ms())
    site.reader.points = lambda device, ms: 900.0 + ms % 100
    axis = "[...document.querySelectorAll('.axis')][0]?.innerText.replace(/\\s+/g, ' ')"
    async with served(site) as running, opened(running.url) as page:
        await page.size(1280, 800)
        await page.until(DRAWN)
        shown = await page.run(axis)
        assert shown.endswith(" 0 W"), shown
        assert await page.run("document.querySelectorAll('.spark .zero').length") >= 5
