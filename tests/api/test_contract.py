"""The API is what its OpenAPI says, whatever is asked: schemathesis judges."""

from pathlib import Path

import pytest

from tests.api.contract import judge

pytestmark = pytest.mark.needs("schemathesis")


async def test_a_few_hundred_requests_find_no_server_error_and_no_lie(tmp_path: Path) -> None:
    judged = await judge(tmp_path, 2, seed=20261121, phases="coverage,fuzzing")
    assert judged.code == 0, judged.text[-6000:]
    assert judged.cases > 300


@pytest.mark.long
async def test_ten_thousand_requests_find_no_server_error_and_no_lie(tmp_path: Path) -> None:
    judged = await judge(tmp_path, 500, seed=20261122)
    assert judged.code == 0, judged.text[-6000:]
    assert judged.cases >= 10_000
