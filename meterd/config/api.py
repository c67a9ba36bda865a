"""The `api:` section: listen address, users, TLS, CORS and reverse proxies."""

import ipaddress
import re
import stat
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from pydantic import field_validator as check

from meterd.config.codes import Code, ValueFlaw
from meterd.config.fields import OrEmpty, Section, Switch, has_control
from meterd.config.listen import is_loopback, split_listen
from meterd.config.store_urls import SQLITE_PREFIX
from meterd.model.files import read

_USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SCRYPT_HASH = re.compile(r"scrypt\$1[0-6]\$[A-Za-z0-9+/]{22,88}={0,2}\$[A-Za-z0-9+/]{43}=")
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_PEM_MAX_BYTES = 1 << 20  # a certificate with its chain
_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_]([a-z0-9._-]{0,252})|\[[0-9a-f:.]+\])"
    r"(:(?P<port>[0-9]{1,5}))?"
)
_PASSWORD_MIN = 8  # characters, as the next
_PASSWORD_MAX = 1024


def _resolved_path(path: str, info: ValidationInfo) -> str:
    """Resolve a relative path from the configuration file's folder."""
    if not path or has_control(path):
        raise ValueFlaw(Code.VALUE, "must be the path of a file").error()
    return str((info.context or {}).get("folder", Path()) / path)


File = Annotated[str, AfterValidator(_resolved_path)]


class TlsSettings(Section):
    """A certificate with its chain, and its key, both PEM files; reloaded when they change."""

    certificate: File
    key: File

    @model_validator(mode="after")
    def _check_key_pair(self) -> "TlsSettings":
        if flaw := tls_flaw(Path(self.certificate), Path(self.key)):
            raise flaw.error()
        return self


def tls_flaw(certificate: Path, key: Path) -> ValueFlaw | None:
    """Why a TLS server cannot use the two files; None where it can."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        for file in (certificate, key):
            read(file, _PEM_MAX_BYTES, pipe=False)
        context.load_cert_chain(certificate, key, password=lambda: b"")
        is_public = stat.S_IMODE(key.stat().st_mode) & 0o007
    except ssl.SSLError as error:
        what = f"{certificate} and {key} are no certificate in PEM and its key without a password"
        return ValueFlaw(Code.TLS, what, f"OpenSSL says {error.reason or error}", show=False)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        file = getattr(error, "filename", None) or certificate
        return ValueFlaw(Code.TLS, f"{file} cannot be read: {reason}", show=False)
    if not is_public:
        return None
    what = f"{key} is a secret, and everybody can read it"
    return ValueFlaw(Code.TLS, what, f"chmod 640 {key}", show=False)


def _user_name(name: str) -> str:
    if not _USER_NAME.fullmatch(name):
        what = "must be a user's name: up to 64 letters, digits and . _ @ -"
        raise ValueFlaw(Code.ACCOUNT, what).error()
    return name


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class UserSettings(Section):
    """A user who logs in with a password, given itself (`password_file`) or as its scrypt hash.

    HTTP Digest needs the password itself: it does not work with a hash.
    """

    password: Annotated[str | None, Field(repr=False)] = None
    password_hash: Annotated[str | None, Field(repr=False)] = None
    scopes: Annotated[
        tuple[Literal["read", "admin", "command"], ...], BeforeValidator(_as_tuple)
    ] = ("read",)

    @check("password")
    @classmethod
    def _check_password_length(cls, password: str | None) -> str | None:
        if password is not None and not _PASSWORD_MIN <= len(password) <= _PASSWORD_MAX:
            what = f"must be a password of {_PASSWORD_MIN} to {_PASSWORD_MAX} characters"
            raise ValueFlaw(Code.ACCOUNT, what, show=False).error()
        return password

    @check("password_hash")
    @classmethod
    def _check_hash(cls, text: str | None) -> str | None:
        if text is not None and not _SCRYPT_HASH.fullmatch(text):
            what = "must be what `meterd token hash` prints"
            raise ValueFlaw(Code.ACCOUNT, what, show=False).error()
        return text

    @model_validator(mode="after")
    def _check_credentials(self) -> "UserSettings":
        if (self.password is None) == (self.password_hash is None):
            hint = "password_file names a file of mode 0600 that holds it"
            what = "needs exactly one of password and password_hash"
            raise ValueFlaw(Code.ACCOUNT, what, hint, show=False).error()
        return self


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        hint = "write 192.0.2.10 or 192.0.2.0/24; names can be forged"
        raise ValueFlaw(Code.PROXY, "must be an address or a network", hint).error() from error
    return text


def _origin(text: str) -> str:
    """The origin as a browser sends it: lower case, without the scheme's default port."""
    match = _ORIGIN.fullmatch(text.strip().lower())
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        hint = (
            "write https://dash.example or http://nas.lan:3000, without a path; * is not possible"
        )
        raise ValueFlaw(Code.ORIGIN, "must be the origin of a page", hint).error()
    default_port = {"http": "80", "https": "443"}[match["scheme"]]
    port = match["port"]
    suffix = f":{int(port)}" if port and port != default_port else ""
    return f"{match['scheme']}://{match['host']}{suffix}"


def _base_path(path: str) -> str:
    path = path.rstrip("/")
    if not _BASE_PATH.fullmatch(path):
        raise ValueFlaw(Code.BASE_PATH, "must be a path such as /meterd").error()
    return path


class ApiSettings(Section):
    """The API server: listen address, TLS, logins and CORS.

    `login` auto: none on loopback; always: everywhere. `insecure` allows to listen on the network
    without TLS, and read requests without a login while there is neither user nor token.
    `tokens`: the token file, None: beside the store. `base_path`: the path prefix of the URL that
    a reverse proxy serves. `cors`: origins whose pages may read answers.
    """

    insecure: Switch = False
    tls: TlsSettings | None = None
    login: Literal["auto", "always"] = "auto"
    tokens: File | None = None
    users: Annotated[dict[Annotated[str, AfterValidator(_user_name)], UserSettings], OrEmpty] = (
        Field(default_factory=dict)
    )
    trusted_proxies: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_as_tuple)
    ] = ()
    base_path: Annotated[str, AfterValidator(_base_path)] = ""
    cors: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_as_tuple)
    ] = ()
    listen: str = "127.0.0.1:8420"

    @property
    def host(self) -> str:
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        return split_listen(self.listen)[1]

    def token_file(self, store_url: str | tuple[str, ...]) -> Path:
        """The token file, which `meterd token` writes and the daemon reads."""
        if self.tokens is not None:
            return Path(self.tokens)
        if isinstance(store_url, str) and store_url.startswith(SQLITE_PREFIX):
            return Path(store_url.removeprefix(SQLITE_PREFIX)).with_suffix(".tokens")
        return Path("meterd.tokens")

    @check("listen")
    @classmethod
    def _check_exposure(cls, listen: str, info: ValidationInfo) -> str:
        host, _ = split_listen(listen)
        # pydantic validates in the order of the fields: `tls` and `insecure` are absent from
        # `data` only where their own values are invalid.
        is_safe = info.data.get("tls", True) is not None or info.data.get("insecure", True)
        if is_loopback(host) or is_safe:
            return listen
        raise ValueFlaw(
            Code.OPEN_LISTEN,
            "{} would serve the network without TLS: passwords and values could be read on the way",
            "add `tls: {certificate: FILE, key: FILE}` and a token (`meterd token add NAME`), or "
            "listen on 127.0.0.1 with a proxy in front, or, where the network itself is trusted, "
            "say `insecure: true`",
        ).error()
