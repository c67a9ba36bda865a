import pytest

from meterd.config.codes import ValueFlawError
from meterd.config.store_urls import store_flaw, store_url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///meterd.db",
        "sqlite:////var/lib/meterd/meterd.db",
        "sqlite:///a/b c.db",
        "postgresql://u:p%40@h/d",
        "mariadb://u@[::1]:3306/d?ssl_ca=/etc/ca.pem",
        "mariadb://u:p@/d?unix_socket=/run/mysqld/mysqld.sock",
        "postgresql://u:p@h:5433/d?sslmode=require",
    ],
)
def test_files_and_servers_are_fine(url: str) -> None:
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
        ("postgresql://u:p@h/", "C035", "add the name of the database"),
        ("postgresql://u:p@/d", "C035", None),
        ("mariadb://h/d", "C035", "add the user"),
        ("mariadb://u:p@ss@h/d", "C035", None),
        ("mariadb://u:p/ss@h/d", "C035", None),
        ("mariadb://u:p#ss@h/d", "C035", None),
        ("mariadb://u:p@h:port/d", "C035", None),
        ("mariadb://u:p@h/d?ssl_cert=x&charset=latin1", "C035", None),
        ("postgresql://u:p@h/d?sslmod=require", "C035", "did you mean sslmode?"),
    ],
)
def test_each_mistake_in_a_store_is_named(url: str, code: str, hint: str | None) -> None:
    flaw = store_flaw(url)
    assert flaw is not None
    assert flaw.code == code
    assert hint is None or flaw.hint == hint


SECRET = "hidden!word"


def complaint(value: object) -> str:
    with pytest.raises(ValueFlawError) as refused:
        store_url(value)
    assert SECRET not in str(refused.value)
    flaw = refused.value.flaw
    assert SECRET not in flaw.what
    assert flaw.show is False or not isinstance(value, str)  # lists are not shown
    return str(refused.value)


def test_several_urls_are_the_nodes_of_one_cluster() -> None:
    urls = [f"mariadb://u:{SECRET}@{host}/d" for host in ("a", "b", "c")]
    assert store_url(urls) == tuple(urls)


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        ([], "one URL at least"),
        ([f"mariadb://u:{SECRET}@a/d", f"postgresql://u:{SECRET}@a/d"], "one kind"),
        ([f"mariadb://u:{SECRET}@a/d", f"mariadb://u:{SECRET}@a/e"], "one database"),
        ([f"mariadb://u:{SECRET}@a/d", f"mariadb://u:{SECRET}@a/d"], "each node once"),
        ([f"mariadb://u:{SECRET}@a/d", f"mariadb://u:{SECRET}@b"], "URL 2 of the list must be"),
        (["sqlite:///a.db", "sqlite:///b.db"], "one database"),
        ({"a": 1}, "a list of the URLs"),
        (5, "a list of the URLs"),
    ],
)
def test_each_mistake_in_a_list_is_named_without_the_password(urls: object, says: str) -> None:
    assert says in complaint(urls)


@pytest.mark.parametrize(
    "url",
    [f"postgres://u:{SECRET}@h/d", f"mariadb://u:{SECRET}@h", f"mariadb://u:x@{SECRET}@h/d"],
)
def test_a_password_is_never_shown(url: str) -> None:
    complaint(url)
