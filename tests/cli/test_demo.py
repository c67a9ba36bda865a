"""`meterd demo`: where it will not listen. What it shows is in tests/e2e/test_demo.py."""

import pytest

from tests.cli.inside import inside

CONFIGURATION = 78


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--listen", "foo"), "--listen 'foo' is not HOST:PORT"),
        (("--listen", "0.0.0.0:1", "--insecure", "--listen", "8420"), "is not HOST:PORT"),
        (("--listen", "192.0.2.1:8420"), "add --insecure"),
        (("--listen", "house.example:8420"), "127.0.0.1"),
    ],
)
def test_what_is_no_place_for_it_is_said_in_its_own_words(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "demo", *words)
    assert (done.code, done.out) == (CONFIGURATION, "")
    assert says in done.err
    assert "insecure: true" not in done.err
