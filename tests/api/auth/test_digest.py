import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.api.auth import digest
from meterd.api.auth.digest import LIFETIME, Digest, Verdict, parse
from meterd.api.auth.passwords import ha1
from meterd.testing import FakeClock

HA1 = ha1("anna", "correct horse")


def nonce_of(door: Digest, *, stale: bool = False) -> str:
    found = re.search(r'nonce="([^"]+)"', door.challenge(stale=stale))
    assert found
    return found[1]


def answer(nonce: str, nc: int = 1, kept: str = HA1, **more: str) -> dict[str, str]:
    """What a client says that knows the password."""
    given = {
        "username": "anna",
        "realm": "meterd",
        "nonce": nonce,
        "uri": "/api/v1/latest",
        "algorithm": "SHA-256",
        "qop": "auth",
        "nc": f"{nc:08x}",
        "cnonce": "0a4f113b",
        **more,
    }
    return {"response": digest._response(given, "GET", kept), **given, **more}


def judged(door: Digest, given: dict[str, str], method: str = "GET") -> Verdict:
    return door.check(given, method, lambda uri: uri == "/api/v1/latest", HA1)


def test_the_example_of_rfc_7616_has_its_response() -> None:
    given = {
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
        "uri": "/dir/index.html",
    }
    kept = digest._hash("Mufasa:http-auth@example.org:Circle of Life")
    expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    assert digest._response(given, "GET", kept) == expected


def test_the_challenge_offers_sha_256_and_auth_alone() -> None:
    door = Digest(FakeClock())
    said = parse(door.challenge(stale=True).removeprefix("Digest "))
    assert said is not None
    assert (said["algorithm"], said["qop"], said["realm"]) == ("SHA-256", "auth", "meterd")
    assert said["stale"] == "true"
    assert "stale" not in door.challenge()
    assert nonce_of(door) != nonce_of(door)


def test_the_right_answer_is_right_once() -> None:
    door = Digest(FakeClock())
    nonce = nonce_of(door)
    assert judged(door, answer(nonce, 1)) is Verdict.RIGHT
    assert judged(door, answer(nonce, 1)) is Verdict.STALE
    assert judged(door, answer(nonce, 2)) is Verdict.RIGHT


def test_requests_that_overtake_each_other_are_each_right_once() -> None:
    door = Digest(FakeClock())
    nonce = nonce_of(door)
    counts = [3, 1, 2, 140, 60, 141, 139]
    assert [judged(door, answer(nonce, nc)) for nc in counts] == [Verdict.RIGHT] * 7
    assert [judged(door, answer(nonce, nc)) for nc in counts] == [Verdict.STALE] * 7
    # Too far behind to be remembered: refused rather than believed twice.
    assert judged(door, answer(nonce, 5)) is Verdict.STALE


@given(st.lists(st.integers(1, 400), max_size=60))
def test_no_count_is_ever_taken_twice(counts: list[int]) -> None:
    seen = digest._Seen(0.0)
    taken = [count for count in counts if seen.take(count)]
    assert len(taken) == len(set(taken))
    top = 0
    for count in dict.fromkeys(counts):
        if count > top - digest._WINDOW:
            assert count in taken
        top = max(top, count)


def test_a_nonce_grows_old() -> None:
    clock = FakeClock()
    door = Digest(clock)
    nonce = nonce_of(door)
    clock.pass_by(LIFETIME)
    assert judged(door, answer(nonce, 1)) is Verdict.RIGHT
    clock.pass_by(0.01)
    assert judged(door, answer(nonce, 2)) is Verdict.STALE


@pytest.mark.parametrize("nonce", ["x", "AAAA", "A" * 43 + "=", "ü", "a b"])
def test_a_nonce_that_is_not_ours_is_stale_for_those_who_know_the_password(nonce: str) -> None:
    assert judged(Digest(FakeClock()), answer(nonce)) is Verdict.STALE


def test_another_process_nonce_is_stale() -> None:
    clock = FakeClock()
    assert judged(Digest(clock), answer(nonce_of(Digest(clock)))) is Verdict.STALE


def test_what_was_forgotten_cannot_be_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_MOST", 3)
    clock = FakeClock()
    door = Digest(clock)
    nonces = []
    for _ in range(6):
        nonces.append(nonce_of(door))
        assert judged(door, answer(nonces[-1], 1)) is Verdict.RIGHT
        clock.pass_by(1)
    assert len(door._seen) == 3
    assert {judged(door, answer(nonce, 1)) for nonce in nonces} == {Verdict.STALE}
    assert {judged(door, answer(nonce, 2)) for nonce in nonces[:3]} == {Verdict.STALE}
    assert {judged(door, answer(nonce, 2)) for nonce in nonces[3:]} == {Verdict.RIGHT}


def test_a_wrong_password_method_or_response_is_wrong() -> None:
    door = Digest(FakeClock())
    nonce = nonce_of(door)
    assert judged(door, answer(nonce, kept=ha1("anna", "wrong"))) is Verdict.WRONG
    assert judged(door, answer(nonce), "POST") is Verdict.WRONG
    assert judged(door, answer(nonce) | {"response": "ü\udc80"}) is Verdict.WRONG
    assert judged(door, answer(nonce) | {"cnonce": "other"}) is Verdict.WRONG


@pytest.mark.parametrize(
    "part",
    [
        *({"algorithm": "MD5"}, {"algorithm": ""}, {"qop": "auth-int"}, {"realm": "other"}),
        *({"nc": "1"}, {"nc": "0000000g"}, {"uri": "/other"}, {"response": ""}, {"nonce": ""}),
    ],
)
def test_what_was_not_offered_is_malformed(part: dict[str, str]) -> None:
    door = Digest(FakeClock())
    assert judged(door, answer(nonce_of(door)) | part) is Verdict.MALFORMED


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('username="a\\"b", qop=auth', {"username": 'a"b', "qop": "auth"}),
        ('a="x, y",b=c', {"a": "x, y", "b": "c"}),
        ("username*=UTF-8''J%C3%A4s", {"username": "Jäs"}),
        ("", {}),
        ("a=b, a=c", None),
        ("a", None),
        ('a="b', None),
        ("username*=latin1''x", None),
        ("username=a, username*=UTF-8''b", None),
    ],
)
def test_parameters_are_read_as_the_rfc_writes_them(
    text: str, found: dict[str, str] | None
) -> None:
    assert parse(text) == found


@given(st.text(max_size=200))
def test_no_header_breaks_the_parser(text: str) -> None:
    given = parse(text)
    door = Digest(FakeClock())
    if given is not None:
        assert judged(door, given) is Verdict.MALFORMED
