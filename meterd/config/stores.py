"""The grammar of store URLs: `sqlite:///relative.db`, `sqlite:////absolute.db`."""

import re

from meterd.config.codes import Code, Flaw
from meterd.config.names import near

_NOT_BUILT = ("postgresql", "mariadb")
_SCHEMES = ("sqlite", *_NOT_BUILT)
_COUSINS = {"postgres": "postgresql", "mysql": "mariadb", "sqlite3": "sqlite"}


def store_flaw(url: str) -> Flaw | None:
    """What is wrong with a store's URL; None where it is fine."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        return Flaw(Code.STORE, "must start with sqlite:///", _scheme_hint(url, scheme, separator))
    if re.search(r"[\x00-\x1f\x7f]", url):
        return Flaw(Code.STORE, "must be one line without control characters")
    if scheme in _NOT_BUILT:
        return Flaw(
            Code.NOT_BUILT,
            f"stores on {scheme}:// are not built yet: {{}}",
            "use sqlite:///meterd.db",
        )
    if not rest.startswith("/") or rest.endswith("/"):
        hint = "sqlite:///meterd.db is relative, sqlite:////var/lib/meterd/meterd.db is absolute"
        return Flaw(Code.STORE, "must be sqlite:// and /FILE", hint)
    if "?" in rest or "#" in rest:
        return Flaw(Code.STORE, "must be a file without options")
    return None


def _scheme_hint(url: str, scheme: str, separator: str) -> str:
    if not separator:
        return f"write sqlite:///{url}" if re.fullmatch(r"[\w./-]+", url) else ""
    if "+" in scheme:
        return "leave the driver package out: it is meterd's business"
    if scheme in _COUSINS:
        return f"did you mean {_COUSINS[scheme]}?"
    return near(scheme, _SCHEMES)
