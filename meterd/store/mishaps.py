"""What the errors of PostgreSQL and MariaDB mean for the store, and what people do about them."""

import re

_PASSWORD = "check user and password in store.url"  # noqa: S105 (advice)
_DATABASE = "make that database first, or correct its name in store.url"
_RIGHTS = "grant that user all rights on the database"
_TABLES = "grant that user the right to make and change tables"

# Another transaction won, and nothing of this one is there: it is tried again at once.
_CONFLICTS: set[object] = {"40001", "40P01", "23505", 1205, 1213, 1047, 1062}
_FULL: set[object] = {"53100", 1021, 1114}
# The server goes, comes, or cannot be reached.
_AWAY: set[object] = {1040, 1053, 1077, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2055}
_AWAY_CLASSES = ("08", "57P", "533")

_ADVICE: dict[object, str] = {
    "28P01": _PASSWORD,
    "28000": _PASSWORD,
    "3D000": _DATABASE,
    "42501": _TABLES,
    "25006": "the server only reads; store.url has to name the one that writes",
    1045: _PASSWORD,
    1698: _PASSWORD,
    1044: f"{_RIGHTS}, or make it first",
    1049: _DATABASE,
    1142: _TABLES,
    1290: "the server only reads; store.url has to name the one that writes",
}
# PostgreSQL says why it refuses a connection in words only.
_WORDS = (
    (re.compile("password authentication failed|no password supplied"), _PASSWORD),
    (re.compile('database ".*" does not exist'), _DATABASE),
    (re.compile('role ".*" does not exist'), _PASSWORD),
    (re.compile("permission denied for database"), _RIGHTS),
    (re.compile("no pg_hba.conf entry"), "allow this host and user in pg_hba.conf"),
    (re.compile("SSL|certificate"), "check sslmode and the certificates that store.url names"),
    (
        re.compile("session is read-only|in recovery mode"),
        "the server only reads; store.url has to name the one that writes",
    ),
)


def told(error: BaseException) -> str:
    """The words of an error in one line."""
    return " ".join(str(error.args[-1] if error.args else error).split())


def meaning(error: BaseException) -> tuple[str, str]:
    """(code of StoreError, advice); the code is `unreachable` where waiting may help."""
    code = _code(error)
    advice = _ADVICE.get(code) or (_worded(told(error)) if code is None else "")
    if code in _FULL:
        return "full", "make room on the server's disk"
    if code in _CONFLICTS:
        return "conflict", ""
    return ("unreachable" if not advice and _is_away(code) else "unavailable"), advice


def _code(error: BaseException) -> object:
    """PostgreSQL's five letters, MariaDB's number, None where there is neither."""
    if error.args and isinstance(error.args[0], int):
        return error.args[0]
    return getattr(error, "sqlstate", None)


def _is_away(code: object) -> bool:
    if isinstance(code, str):
        return code.startswith(_AWAY_CLASSES)
    # Drivers have no code for a connection that is gone, or that never was.
    return code is None or code in _AWAY or code == 0


def _worded(text: str) -> str:
    return next((advice for words, advice in _WORDS if words.search(text)), "")
