"""The grammar of store URLs: a file, or a database on one server or on the nodes of a cluster.

sqlite:///relative.db    sqlite:////absolute.db
postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE
mariadb://USER:PASSWORD@HOST:PORT/DATABASE?ssl_ca=FILE
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import SplitResult, parse_qsl, urlsplit

from meterd.config.codes import Code, ValueFlaw
from meterd.config.names import near

_OPTIONS = {
    "postgresql": ("sslmode", "sslrootcert", "sslcert", "sslkey"),
    "mariadb": ("ssl_ca", "ssl_cert", "ssl_key", "unix_socket"),
}
_SCHEMES = ("sqlite", *_OPTIONS)
_COUSINS = {"postgres": "postgresql", "mysql": "mariadb", "sqlite3": "sqlite"}
_ENCODE = "in user and password write %40 for @, %3A for :, %2F for /, %23 for #, %25 for %"


def store_url(value: object) -> str | tuple[str, ...]:
    """One URL, or those of the nodes of one cluster. Raises what pydantic expects."""
    if isinstance(value, str):
        if flaw := store_flaw(value):
            raise flaw.error()
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ValueFlaw(Code.TYPE, "must be a URL, or a list of the URLs of one cluster").error()
    if flaw := _list_flaw(value):
        raise flaw.error()
    return tuple(value)


def _list_flaw(urls: Sequence[str]) -> ValueFlaw | None:
    """What is wrong with the nodes of a cluster; none of them is shown."""
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
    """What is wrong with a store's URL; None where it is fine."""
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
    """It is never shown: it holds a password."""
    what = "must be SCHEME://USER:PASSWORD@HOST/DATABASE"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return ValueFlaw(Code.STORE, what, _ENCODE, show=False)
    database = parts.path.removeprefix("/")
    if parts.fragment or "/" in database or parts.netloc.count("@") > 1:
        return ValueFlaw(Code.STORE, what, _ENCODE, show=False)
    socket = "unix_socket" in dict(parse_qsl(parts.query))
    if not database or not (parts.hostname or socket):
        return ValueFlaw(Code.STORE, what, "add the name of the database", show=False)
    if not parts.username:
        return ValueFlaw(Code.STORE, what, "add the user", show=False)
    return _option_flaw(parts)


def _option_flaw(parts: SplitResult) -> ValueFlaw | None:
    known = _OPTIONS[parts.scheme]
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            what = f"must have no option but {', '.join(known)}"
            return ValueFlaw(Code.STORE, what, near(name, known), show=False)
    return None


def _scheme_hint(url: str, scheme: str, separator: str) -> str:
    if not separator:
        return f"write sqlite:///{url}" if re.fullmatch(r"[\w./-]+", url) else ""
    if "+" in scheme:
        return "leave the driver package out: it is meterd's business"
    if scheme in _COUSINS:
        return f"did you mean {_COUSINS[scheme]}?"
    return near(scheme, _SCHEMES)
