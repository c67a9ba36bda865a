import pytest

from meterd.config.listen import is_loopback
from tests.config.judge import MINIMAL, problem, settings


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:8420", "127.0.0.1", 8420),
        ("'[::1]:8420'", "::1", 8420),
        ("localhost:0", "localhost", 0),
        ("127.1.2.3:65535", "127.1.2.3", 65535),
    ],
)
def test_loopback_needs_no_permission(listen: str, host: str, port: int) -> None:
    api = settings(f"api: {{listen: {listen}}}\n{MINIMAL}").api
    assert (api.host, api.port, api.insecure) == (host, port, False)


@pytest.mark.parametrize("listen", ["0.0.0.0:8420", "'[::]:8420'", "192.0.2.1:80", "nas:8420"])
def test_the_network_is_served_only_on_demand(listen: str) -> None:
    found = problem(f"api: {{listen: {listen}}}\n")
    assert found.code == "C037"
    assert "without TLS" in found.what
    assert "meterd token add" in found.hint
    assert "insecure: true" in found.hint
    for order in (f"listen: {listen}, insecure: true", f"insecure: true, listen: {listen}"):
        assert settings(f"api: {{{order}}}\n{MINIMAL}").api.insecure


@pytest.mark.parametrize(
    ("listen", "hint"),
    [
        ("'8420'", "write 127.0.0.1:8420"),
        ("':8420'", "write 127.0.0.1:8420"),
        ("'::1:8420'", "IPv6 stands in brackets: [::1]:8420"),
        ("'[127.0.0.1]:8420'", "write 127.0.0.1:8420; ports go up to 65535"),
        ("127.0.0.1:65536", "write 127.0.0.1:8420; ports go up to 65535"),
        ("127.0.0.256:1", "write 127.0.0.1:8420; ports go up to 65535"),
        ("''", "write 127.0.0.1:8420; ports go up to 65535"),
    ],
)
def test_what_is_no_listen_address_is_refused(listen: str, hint: str) -> None:
    found = problem(f"api: {{listen: {listen}}}\n")
    assert (found.code, found.hint) == ("C036", hint)


def test_a_name_is_loopback_only_if_it_is_localhost() -> None:
    assert is_loopback("LOCALHOST")
    assert not is_loopback("localhost.example.org")
