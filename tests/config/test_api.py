from pathlib import Path

import pytest

from meterd.config.api import ApiSettings, tls_flaw
from tests.api.certificates import make
from tests.config.judge import MINIMAL, problem, settings

HASH = "scrypt$14$" + "A" * 22 + "==$" + "A" * 43 + "="


def test_a_whole_section(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("correct horse\n")
    (tmp_path / "pw").chmod(0o600)
    text = f"""\
api:
  listen: 127.0.0.1:8420
  login: always
  tokens: keys.json
  users:
    anna: {{password_file: pw, scopes: [read, admin]}}
    bob_file: {{password_hash: "{HASH}", scopes: command}}
  trusted_proxies: [127.0.0.1, 10.0.0.0/8, "2001:db8::/32"]
  base_path: /meterd/
  cors: [https://Dash.example:443, "http://nas.lan:3000", "http://[::1]:80"]
"""
    api = settings(text + MINIMAL, folder=tmp_path).api
    assert api.users["anna"].password == "correct horse"
    assert api.users["anna"].scopes == ("read", "admin")
    assert api.users["bob_file"].scopes == ("command",)
    assert api.base_path == "/meterd"
    assert api.cors == ("https://dash.example", "http://nas.lan:3000", "http://[::1]")
    assert api.token_file("sqlite:////elsewhere/x.db") == tmp_path / "keys.json"
    assert "correct horse" not in repr(api)
    assert HASH not in repr(api)


@pytest.mark.parametrize(
    ("store", "file"),
    [
        ("sqlite:///meterd.db", "meterd.tokens"),
        ("sqlite:////var/lib/meterd/meterd.db", "/var/lib/meterd/meterd.tokens"),
        ("postgresql://h/m", "meterd.tokens"),
    ],
)
def test_tokens_stand_beside_the_store(store: str, file: str) -> None:
    assert ApiSettings().token_file(store) == Path(file)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("users: {anna: {}}", "C051", "exactly one of password and password_hash"),
        (f"users: {{anna: {{password: '12345678', password_hash: '{HASH}'}}}}", "C051", "one of"),
        ("users: {anna: {password: secret7}}", "C051", "8 to 1024 characters"),
        ("users: {anna: {password_hash: hunter2hunter2}}", "C051", "meterd token hash"),
        ("users: {'a:b': {password: '12345678'}}", "C051", "user's name"),
        ("users: {anna: {password: '12345678', scopes: [root]}}", "C023", ""),
        ("trusted_proxies: [proxy.lan]", "C053", "address or a network"),
        ("trusted_proxies: 10.0.0.1/8", "C053", "address or a network"),
        ("base_path: meterd", "C052", "/meterd"),
        ("base_path: //evil", "C052", "/meterd"),
        ("cors: '*'", "C054", "origin of a page"),
        ("cors: 'null'", "C054", "origin of a page"),
        ("cors: [https://a.example/]", "C054", "origin of a page"),
        ("cors: [a.example]", "C054", "origin of a page"),
        ("cors: [https://*.example]", "C054", "origin of a page"),
        ("cors: [https://a.example:99999]", "C054", "origin of a page"),
        ("login: never", "C024", "auto or always"),
        ("tokens: ''", "C026", "path of a file"),
    ],
)
def test_a_mistake_says_what_to_do_and_never_shows_a_secret(
    text: str, code: str, said: str
) -> None:
    found = problem(f"api: {{{text}}}\n")
    assert found.code == (code if code != "C023" else "C024")
    assert said in found.what
    for secret in ("secret7", "hunter2"):
        assert secret not in str(found)


@pytest.mark.needs("openssl")
def test_with_tls_the_network_may_be_served(tmp_path: Path) -> None:
    pair = make(tmp_path)
    text = "api: {listen: 0.0.0.0:8420, tls: {certificate: tls.pem, key: tls.key}}\n"
    api = settings(text + MINIMAL, folder=tmp_path).api
    assert api.tls is not None
    assert api.tls.certificate == str(pair.certificate)


@pytest.mark.needs("openssl")
def test_files_of_tls_are_judged(tmp_path: Path) -> None:
    pair, other = make(tmp_path), make(tmp_path, "other")
    locked = make(tmp_path, "locked", "secret")
    assert tls_flaw(pair.certificate, pair.key) is None
    for certificate, key, said in [
        (tmp_path / "none", pair.key, "No such file"),
        (pair.certificate, other.key, "no certificate in PEM and its key"),
        (pair.key, pair.certificate, "no certificate in PEM and its key"),
        (locked.certificate, locked.key, "without a password"),
    ]:
        flaw = tls_flaw(certificate, key)
        assert flaw is not None
        assert said in flaw.what
    pair.key.chmod(0o644)
    flaw = tls_flaw(pair.certificate, pair.key)
    assert flaw is not None
    assert flaw.hint == f"chmod 640 {pair.key}"
