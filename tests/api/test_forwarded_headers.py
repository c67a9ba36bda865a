import pytest

from meterd.api.forwarded_headers import ForwardedHeaders

PROXY = "10.0.0.1"
WAY = ForwardedHeaders(("10.0.0.0/24", "::1"), "/meterd")


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        (PROXY, "192.0.2.7", "192.0.2.7"),
        (PROXY, "6.6.6.6, 192.0.2.7", "192.0.2.7"),
        (PROXY, "6.6.6.6, 192.0.2.7, 10.0.0.9", "192.0.2.7"),
        (PROXY, "192.0.2.7:4711", "192.0.2.7"),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        (PROXY, "::ffff:10.0.0.9, 10.0.0.8", "::ffff:10.0.0.9"),
        (PROXY, "6.6.6.6, nonsense, 10.0.0.9", "10.0.0.9"),
        (PROXY, "", PROXY),
        (PROXY, ",,,", PROXY),
        (PROXY, "6.6.6.6," + "10.0.0.9," * 99 + "10.0.0.9", "10.0.0.9"),
        ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.66", "127.0.0.1", "192.0.2.66"),
        ("127.0.0.1", "192.0.2.7", "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_has(
    peer: str, chain: str, client: str
) -> None:
    assert WAY.of(peer, {"X-Forwarded-For": chain}, "http").address == client


def test_a_trusted_proxy_tells_scheme_host_and_prefix() -> None:
    headers = {
        "Host": "127.0.0.1:8420",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "energy.example",
        "X-Forwarded-Prefix": "/power/",
    }
    via = WAY.of(PROXY, headers, "http")
    assert (via.scheme, via.host, via.prefix) == ("https", "energy.example", "/power")
    other = WAY.of("192.0.2.1", headers, "http")
    assert (other.scheme, other.host, other.prefix) == ("http", "127.0.0.1:8420", "/meterd")
    assert not via.is_direct
    assert not other.is_direct


@pytest.mark.parametrize("prefix", ["//evil.example", "/a\r\nb", "/a?b", "javascript:", "/<x>"])
def test_what_is_no_prefix_or_host_is_not_passed_on(prefix: str) -> None:
    headers = {"Host": "h", "X-Forwarded-Prefix": prefix, "X-Forwarded-Host": "a/b"}
    via = WAY.of(PROXY, headers, "http")
    assert (via.prefix, via.host) == ("/meterd", "h")


def test_without_a_proxy_it_is_direct() -> None:
    assert ForwardedHeaders().of("127.0.0.1", {"Host": "localhost"}, "http").is_direct
    assert (
        not ForwardedHeaders().of("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, "http").is_direct
    )
    assert not ForwardedHeaders().of("127.0.0.1", {"Forwarded": "for=192.0.2.1"}, "http").is_direct
