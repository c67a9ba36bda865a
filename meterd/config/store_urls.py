"""Validates store URLs: a file, or a database on one server or on the nodes of a cluster.

sqlite:///relative.db    sqlite:////absolute.db
postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE
mariadb://USER:PASSWORD@HOST:PORT/DATABASE?ssl_ca=FILE
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import SplitResult, parse_qsl, urlsplit

from meterd.config.codes import Code, ValueFlaw
from meterd.config.names import spelling_hint

_OPTIONS = {
    "postgresql": ("sslmode", "sslrootcert", "sslcert", "sslkey"),
    "mariadb": ("ssl_ca", "ssl_cert", "ssl_key", "unix_socket"),
}
SQLITE_PREFIX = "sqlite:///"
_SCHEMES = ("sqlite", *_OPTIONS)
_SCHEME_ALIASES = {"postgres": "postgresql", "mysql": "mariadb", "sqlite3": "sqlite"}
_ENCODING_HINT = "in user and password write %40 for @, %3A for :, %2F for /, %23 for #, %25 for %"


def store_url(value: object) -> str | tuple[str, ...]:
    """Validate one URL, or those of the nodes of one cluster. Raises ValueFlawError."""
    if isinstance(value, str):
        if flaw := store_flaw(value):
            raise flaw.error()
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(url, str) for url in value):
        raise ValueFlaw(Code.TYPE, "must be a URL, or a list of the URLs of one cluster").error()
    if flaw := _list_flaw(value):
        raise flaw.error()
    return tuple(value)


def _list_flaw(urls: Sequence[str]) -> ValueFlaw | None:
    """The first flaw of the URLs of a cluster's nodes; URLs are not shown: they hold passwords."""
    if not urls:
        return ValueFlaw(Code.STORE, "must name one URL at least")
    for number, url in enumerate(urls, 1):
        if flaw := store_flaw(url):
            what = flaw.what.replace("{}", "it")
            return replace(flaw, what=f"URL {number} of the list {what}", show=False)
    if len({urlsplit(url).scheme for url in urls}) > 1:
        return ValueFlaw(Code.STORE, "must all be of one kind: they are nodes of one cluster")
    if len({urlsplit(url).path for url in urls}) > 1:
        return ValueFlaw(Code.STORE, "must all name one database: they are nodes of one cluster")
    if len(set(urls)) < len(urls):
        return ValueFlaw(Code.STORE, "must name each node once")
    if len(urls) > 1 and urls[0].startswith("sqlite:"):
        return ValueFlaw(Code.STORE, "must be one URL: a store in a file has no nodes")
    return None


def store_flaw(url: str) -> ValueFlaw | None:
    """The first flaw of a store's URL; None where it is valid."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        what = "must start with sqlite:///, postgresql:// or mariadb://"
        return ValueFlaw(
            Code.STORE, what, _scheme_hint(url, scheme, separator), show="@" not in url
        )
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", url):
        return ValueFlaw(Code.STORE, "must be one line without control characters", show=False)
    if scheme in _OPTIONS:
        return _server_flaw(url)
    if not rest.startswith("/") or rest.endswith("/"):
        hint = "sqlite:///meterd.db is relative, sqlite:////var/lib/meterd/meterd.db is absolute"
        return ValueFlaw(Code.STORE, "must be sqlite:// and /FILE", hint)
    if "?" in rest or "#" in rest:
        return ValueFlaw(Code.STORE, "must be a file without options")
    return None


def _server_flaw(url: str) -> ValueFlaw | None:
    """The first flaw of a server's URL, which is not shown: it holds a password."""
    what = "must be SCHEME://USER:PASSWORD@HOST/DATABASE"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return ValueFlaw(Code.STORE, what, _ENCODING_HINT, show=False)
    database = parts.path.removeprefix("/")
    if parts.fragment or "/" in database or parts.netloc.count("@") > 1:
        return ValueFlaw(Code.STORE, what, _ENCODING_HINT, show=False)
    socket = "unix_socket" in dict(parse_qsl(parts.query))
    if not database or not (parts.hostname or socket):
        return ValueFlaw(Code.STORE, what, "add the name of the database", show=False)
    if not parts.username:
        return ValueFlaw(Code.STORE, what, "add the user", show=False)
    return _option_flaw(parts)


def _option_flaw(parts: SplitResult) -> ValueFlaw | None:
    options = _OPTIONS[parts.scheme]
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options:
            what = f"must have no option but {', '.join(options)}"
            return ValueFlaw(Code.STORE, what, spelling_hint(name, options), show=False)
    return None


def _scheme_hint(url: str, scheme: str, separator: str) -> str:
    if not separator:
        return f"write sqlite:///{url}" if re.fullmatch(r"[\w./-]+", url) else ""
    if "+" in scheme:
        return "leave the driver package out: it is meterd's business"
    if scheme in _SCHEME_ALIASES:
        return f"did you mean {_SCHEME_ALIASES[scheme]}?"
    return spelling_hint(scheme, _SCHEMES)
