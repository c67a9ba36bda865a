"""Maps errors of PostgreSQL and MariaDB to StoreError codes, with advice."""

import re
from collections.abc import Iterable

from meterd.errors import StoreCode

_PASSWORD = "check user and password in store.url"  # noqa: S105 (advice)
_DATABASE = "make that database first, or correct its name in store.url"
_RIGHTS = "grant that user all rights on the database"
_TABLES = "grant that user the right to make and change tables"
_READS = "the server only reads; store.url has to name the one that writes"
_USER = f"{_PASSWORD}; a user who has to use TLS needs ?ssl_ca=FILE there"
_SSL_CA = "the server wants TLS: add ?ssl_ca=FILE to store.url"
_SSL = "check the TLS options and the certificates that store.url names"

# Another transaction won, and nothing of this one is there: it is tried again at once.
_CONFLICTS: set[object] = {"40001", "40P01", "23505", 1205, 1213, 1047, 1062}
_FULL: set[object] = {"53100", 1021, 1114}
# The server goes, comes, or cannot be reached.
_AWAY: set[object] = {1040, 1053, 1077, 1158, 1159, 1160, 1161, 1927}
_AWAY |= {2002, 2003, 2006, 2013, 2026, 2055}
_AWAY_CLASSES = ("08", "57P", "533")

_ADVICE: dict[object, str] = {
    "28P01": _PASSWORD,
    "28000": _PASSWORD,
    "3D000": _DATABASE,
    "42501": _TABLES,
    "25006": _READS,
    1045: _USER,
    1698: _USER,
    1044: f"{_RIGHTS}, or make it first",
    1049: _DATABASE,
    1142: _TABLES,
    1290: _READS,
    3159: _SSL_CA,
}
# Both say in words only why there is no connection.
_WORDS = (
    (re.compile("password authentication failed|no password supplied"), _PASSWORD),
    (re.compile('database ".*" does not exist'), _DATABASE),
    (re.compile('role ".*" does not exist'), _PASSWORD),
    (re.compile("permission denied for database"), _RIGHTS),
    (
        re.compile("no pg_hba.conf entry.*no encryption"),
        "the server may want TLS: add ?sslmode=require to store.url, or allow this host and user "
        "in pg_hba.conf",
    ),
    (re.compile("no pg_hba.conf entry"), "allow this host and user in pg_hba.conf"),
    (re.compile("insecure transport"), _SSL_CA),
    # A connection that is cut later says SSL, too.
    (re.compile("SSL(?! (connection has|SYSCALL|error: unexp))|certificate"), _SSL),
    (re.compile("session is read-only|in recovery mode"), _READS),
)
# What may mend itself: meterd waits for it, and says what to look at meanwhile.
_WAITING = (
    (
        re.compile("refused|No such file|Network is unreachable|No route"),
        "start the server, or correct host and port in store.url",
    ),
    (
        re.compile("resolve host|not known|[Nn]ame resolution|No address"),
        "correct the host in store.url, or look after the network",
    ),
    (
        re.compile("timeout|timed out"),
        "the server does not answer; look after it, the network and its firewall",
    ),
)


def one_line(error: BaseException) -> str:
    """The words of an error in one line."""
    return " ".join(str(error.args[-1] if error.args else error).split())


def meaning(error: BaseException) -> tuple[StoreCode, str]:
    """(code, advice); the code is UNREACHABLE where waiting may help."""
    code, words = _code(error), one_line(error)
    if code in _FULL:
        return StoreCode.FULL, "make room on the server's disk"
    if code in _CONFLICTS:
        return StoreCode.CONFLICT, ""
    advice = _ADVICE.get(code) or (_worded(words, _WORDS) if _is_away(code) else "")
    if advice or not _is_away(code):
        return StoreCode.UNAVAILABLE, advice
    return StoreCode.UNREACHABLE, _worded(words, _WAITING)


def _code(error: BaseException) -> object:
    """PostgreSQL's SQLSTATE, MariaDB's error number, None where there is neither."""
    if error.args and isinstance(error.args[0], int):
        return error.args[0]
    return getattr(error, "sqlstate", None)


def _is_away(code: object) -> bool:
    if isinstance(code, str):
        return code.startswith(_AWAY_CLASSES)
    # Drivers have no code for a connection that is gone, or that never was.
    return code is None or code in _AWAY or code == 0


def _worded(text: str, table: Iterable[tuple[re.Pattern[str], str]]) -> str:
    return next((advice for words, advice in table if words.search(text)), "")
