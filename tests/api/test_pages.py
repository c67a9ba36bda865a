"""Lists a page at a time."""

from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from meterd.api.pages import PageQuery, cut
from meterd.api.problem import ApiRefusal
from tests.api.fake import NOW, FakeSite, alert


@given(st.sets(st.text(max_size=5)), st.integers(1, 20))
def test_pages_one_after_the_other_are_the_whole_list(items: set[str], limit: int) -> None:
    listed, found = sorted(items), list[str]()
    cursor: str | None = None
    for _ in range(len(listed) + 1):
        some, cursor = cut(listed, PageQuery(limit=limit, cursor=cursor), lambda one: one)
        found += some
        assert len(some) <= limit
        if cursor is None:
            break
    assert found == listed


@pytest.mark.parametrize("cursor", ["", "x", "_", "é", "A" * 999, "////", "\x00"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ApiRefusal) as refused:
        cut(["a"], PageQuery(cursor=cursor), lambda one: one)
    assert refused.value.code in ("bad_cursor", "cursor_gone")


async def get(client: ClientSession, path: str, status: int = 200) -> Any:
    async with client.get(f"/api/v1/{path}") as reply:
        assert reply.status == status
        return await reply.json(content_type=None)


@pytest.mark.parametrize("path", ["series", "alerts", "events"])
async def test_lists_that_can_grow_have_pages(
    client: ClientSession, site: FakeSite, path: str
) -> None:
    site.firing = [alert(NOW, id=f"a/{number}") for number in range(5)]
    whole = await get(client, path)
    assert whole["next"] is None
    first = await get(client, f"{path}?limit=1")
    assert first[path] == whole[path][:1]
    if len(whole[path]) > 1:
        rest = await get(client, f"{path}?limit=11000&cursor={first['next']}")
        assert first[path] + rest[path] == whole[path]
    assert (await get(client, f"{path}?cursor=bm9wZQ==", 422))["code"] == "cursor_gone"
    assert (await get(client, f"{path}?limit=0", 400))["code"] == "bad_number"


async def test_series_can_be_chosen(client: ClientSession) -> None:
    found = (await get(client, "series?device=main&quantity=active_power"))["series"]
    assert [(one["device"], one["quantity"]) for one in found] == [("main", "active_power")]
