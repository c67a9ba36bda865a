import pytest

from meterd.config.stores import store_flaw


@pytest.mark.parametrize(
    "url", ["sqlite:///meterd.db", "sqlite:////var/lib/meterd/meterd.db", "sqlite:///a/b c.db"]
)
def test_sqlite_urls_are_fine(url: str) -> None:
    assert store_flaw(url) is None


@pytest.mark.parametrize(
    ("url", "code", "hint"),
    [
        ("meterd.db", "C035", "write sqlite:///meterd.db"),
        ("/var/lib/meterd.db", "C035", "write sqlite:////var/lib/meterd.db"),
        ("sqlte:///x.db", "C035", "did you mean sqlite?"),
        ("mysql://h/d", "C035", "did you mean mariadb?"),
        ("postgres://h/d", "C035", "did you mean postgresql?"),
        (
            "postgresql+psycopg://h/d",
            "C035",
            "leave the driver package out: it is meterd's business",
        ),
        ("sqlite:///", "C035", None),
        ("sqlite://x.db", "C035", None),
        ("sqlite:///x/", "C035", None),
        ("sqlite:///x.db?mode=ro", "C035", None),
        ("sqlite:///x\n.db", "C035", None),
        ("postgresql://h/d", "C034", "use sqlite:///meterd.db"),
        ("mariadb://h/d", "C034", "use sqlite:///meterd.db"),
    ],
)
def test_each_mistake_in_a_store_is_named(url: str, code: str, hint: str | None) -> None:
    flaw = store_flaw(url)
    assert flaw is not None
    assert flaw.code == code
    assert hint is None or flaw.hint == hint
