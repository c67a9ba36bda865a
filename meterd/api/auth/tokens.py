"""The file of tokens: who has one, for what and until when; never the tokens themselves.

    {"version": 1, "tokens": [{"name": "grafana", "hash": "<SHA-256, hex>", "scopes": ["read"],
     "created": "2026-11-21T10:00:00Z", "expires": null}]}

A token is 256 random bits, so its plain SHA-256 gives nothing away: there is no dictionary of
such secrets. When each was last used stands in a file of its own beside it, which only the
daemon writes, so that `meterd token` and the daemon never write the same file.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meterd.api.auth.scope import SCOPES
from meterd.errors import GeneralCode, MeterdError
from meterd.model.files import open_regular

PREFIX = "meterd_"
_SIZE_LIMIT = 1_048_576
_MOST = 1000
_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """One line of the file; times are Unix seconds, `expires` None is never."""

    name: str
    hash: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None = None


def digest(secret: str) -> str:
    """The stored digest of a token."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def used_file(path: Path) -> Path:
    """Where the daemon notes when each token was last used."""
    return path.with_name(f"{path.name}.used")


def load(path: Path) -> list[ApiToken]:
    """The tokens of a file; empty where there is no file.

    Raises MeterdError where it cannot be read, is damaged, or can be read by other users.
    """
    data = _read(path)
    if data is None:
        return []
    try:
        return [_token(entry) for entry in json.loads(data)["tokens"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        text = f"{path} is no file of tokens any more: put it back from a backup, or delete it"
        raise MeterdError(text, code=GeneralCode.TOKENS) from error


def _read(path: Path) -> bytes | None:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror or error}"
        raise MeterdError(text, code=GeneralCode.TOKENS) from error
    if stat.S_IMODE(mode) & 0o077:
        text = f"{path} lets other users at it: chmod 600 {path}"
        raise MeterdError(text, code=GeneralCode.TOKENS)
    if len(data) > _SIZE_LIMIT:
        raise MeterdError(f"{path} is larger than any file of tokens", code=GeneralCode.TOKENS)
    return data


def _token(entry: dict[str, Any]) -> ApiToken:
    name, kept, scopes = entry["name"], entry["hash"], tuple(entry["scopes"])
    if not isinstance(name, str) or len(bytes.fromhex(kept)) != 32 or set(scopes) - set(SCOPES):
        raise ValueError(name)
    expires = entry.get("expires")
    return ApiToken(
        name, kept, scopes, _seconds(entry["created"]), _seconds(expires) if expires else None
    )


def _seconds(text: str) -> int:
    return int(datetime.strptime(text, _FORM).replace(tzinfo=UTC).timestamp())


def spell(seconds: int | None) -> str | None:
    """Unix seconds as the file has them."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime(_FORM)


def add(
    path: Path, name: str, scopes: tuple[str, ...], now: int, expires: int | None = None
) -> str:
    """A new token: the secret, which is nowhere kept. Raises MeterdError: the name is taken."""
    secret = PREFIX + secrets.token_urlsafe(32)
    with _locked(path):
        tokens = load(path)
        if any(token.name == name for token in tokens):
            text = f"there is a token {name!r} already: revoke it, or choose another name"
            raise MeterdError(text, code=GeneralCode.TAKEN)
        if len(tokens) >= _MOST:
            raise MeterdError(f"{path} holds {_MOST} tokens: revoke some", code=GeneralCode.TOKENS)
        _save(path, [*tokens, ApiToken(name, digest(secret), scopes, now, expires)])
    return secret


def revoke(path: Path, name: str) -> None:
    """Removes a token. Raises MeterdError for an unknown name."""
    with _locked(path):
        tokens = load(path)
        kept = [token for token in tokens if token.name != name]
        if len(kept) == len(tokens):
            known = ", ".join(token.name for token in tokens) or "none"
            text = f"there is no token {name!r} in {path}; there is: {known}"
            raise MeterdError(text, code=GeneralCode.UNKNOWN)
        # An empty list stays: with no file at all, `insecure: true` would open the door.
        _save(path, kept)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Locks the file's folder, so that no other process changes the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _save(path: Path, tokens: list[ApiToken]) -> None:
    entries = [
        {
            "name": token.name,
            "hash": token.hash,
            "scopes": list(token.scopes),
            "created": spell(token.created),
            "expires": spell(token.expires),
        }
        for token in tokens
    ]
    replace(path, json.dumps({"version": 1, "tokens": entries}, indent=1).encode())


def replace(path: Path, data: bytes) -> None:
    """The new content, or the old one, whatever happens meanwhile; mode 0600."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            _give_away(path, file.fileno())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _give_away(path: Path, descriptor: int) -> None:
    # root's file could not be read by the daemon, which is somebody else.
    if os.geteuid() == 0:
        owner = (path if path.exists() else path.parent).stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _unwritable(path: Path, error: OSError) -> MeterdError:
    text = f"{path} cannot be written: {error.strerror or error}; run this as the daemon's user"
    return MeterdError(text, code=GeneralCode.TOKENS)


def last_used(path: Path) -> dict[str, int]:
    """Hash of a token -> Unix seconds of its last use, as the daemon noted it."""
    try:
        noted = json.loads(used_file(path).read_bytes())
    except (OSError, ValueError):
        return {}
    found = noted.items() if isinstance(noted, dict) else ()
    return {key: when for key, when in found if isinstance(when, int)}
