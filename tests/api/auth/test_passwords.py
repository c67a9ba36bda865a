import hashlib

import pytest

from meterd.api.auth import passwords
from meterd.api.auth.passwords import User, Users, ha1, hashed, is_hash
from meterd.config.api import UserSettings

READ = frozenset({"read"})
FAST = User("anna", READ, ha1=ha1("anna", "correct horse"))
SLOW = User("bob", READ, slow=hashed("correct horse"))


def test_ha1_is_that_of_the_rfc() -> None:
    assert ha1("anna", "pw") == hashlib.sha256(b"anna:meterd:pw").hexdigest()


@pytest.mark.parametrize("user", [FAST, SLOW], ids=["password", "hash"])
async def test_only_the_right_password_of_the_right_user_opens(user: User) -> None:
    users = Users({user.name: user})
    who = await users.who(user.name, "correct horse")
    assert who is not None
    assert who.name == user.name
    for name, password in [
        (user.name, "wrong"),
        (user.name, ""),
        ("eve", "correct horse"),
        ("", ""),
        (user.name, "correct horse" + "x" * 5000),
        (user.name, "\udc80"),
    ]:
        assert await users.who(name, password) is None


async def test_a_slow_hash_is_computed_once_for_a_password_that_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users = Users({"bob": SLOW})
    counted = []
    real = passwords._is_right

    def count(password: str, slow: str) -> bool:
        counted.append(password)
        return real(password, slow)

    monkeypatch.setattr(passwords, "_is_right", count)
    for _ in range(3):
        assert await users.who("bob", "correct horse")
    assert await users.who("bob", "other") is None
    assert await users.who("bob", "other") is None
    # One that does not exist costs as much: time tells nothing of who does.
    assert await users.who("eve", "other") is None
    assert counted == ["correct horse", "other", "other", "other"]


def test_digest_is_offered_only_where_all_could_use_it() -> None:
    assert Users({"anna": FAST}).has_digest
    assert not Users({"anna": FAST, "bob": SLOW}).has_digest
    assert not Users({}).has_digest


def test_a_hash_is_salted_and_what_the_configuration_takes() -> None:
    one, other = hashed("correct horse"), hashed("correct horse")
    assert one != other
    assert is_hash(one)
    assert UserSettings(password_hash=one).password_hash == one


@pytest.mark.parametrize(
    "text", ["", "scrypt", "scrypt$14$a$b", "bcrypt$14$YWJj$YWJj", "scrypt$$$"]
)
def test_what_is_no_hash_is_none(text: str) -> None:
    assert not is_hash(text)
