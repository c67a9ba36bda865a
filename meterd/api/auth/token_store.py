"""The token store: API tokens of a file, read again when it changes; last uses are saved."""

import json
import logging
from functools import partial
from pathlib import Path

from meterd.api.auth import tokens
from meterd.api.auth.scope import Who
from meterd.api.auth.tokens import ApiToken
from meterd.errors import MeterdError
from meterd.model.clock import Clock

log = logging.getLogger("meterd.api")

# Seconds: a revoked token opens nothing for longer than this.
_LOOK_EVERY = 1.0


class TokenStore:
    """Authenticates by token. A file that is damaged, or readable by others, is refused."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._tokens: dict[str, ApiToken] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._looked = -_LOOK_EVERY
        self._used: dict[str, int] = {}
        self._existed = False

    @property
    def exists(self) -> bool:
        """Whether there is, or was during this run, a file of tokens."""
        self._reload_if_changed()
        return self._existed

    def __len__(self) -> int:
        self._reload_if_changed()
        return len(self._tokens)

    def who(self, secret: str) -> Who | None:
        """The user of a token; None where it is unknown or revoked."""
        self._reload_if_changed()
        # By its hash in a dict: what the time of that tells of a hash tells nothing of a secret.
        kept = tokens.digest(secret)
        token = self._tokens.get(kept)
        if token is None:
            self._reload_if_changed(at_once=True)
            token = self._tokens.get(kept)
        now = self._now()
        if token is None or _is_over(token, now):
            return None
        self._used[kept] = now
        return Who(token.name, frozenset(token.scopes), partial(self._opens, kept))

    def _opens(self, kept: str) -> bool:
        """Whether the token of that hash is still good."""
        self._reload_if_changed()
        token = self._tokens.get(kept)
        return token is not None and not _is_over(token, self._now())

    def _now(self) -> int:
        return self._clock.now_ms() // 1000

    def _reload_if_changed(self, *, at_once: bool = False) -> None:
        now = self._clock.monotonic()
        if self._path is None or (not at_once and now - self._looked < _LOOK_EVERY):
            return
        self._looked = now
        stamp = _stamp(self._path)
        self._existed = self._existed or stamp is not None
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = {token.hash: token for token in tokens.load(self._path)}
        except MeterdError as error:
            self._tokens = {}
            log.error("no token opens anything: %s", error)

    def note(self) -> None:
        """Write down when tokens were last used; it waits for the disk, so not in the loop."""
        used, self._used = self._used, {}
        if self._path is None or not used:
            return
        noted = tokens.last_used(self._path) | used
        kept = {key: when for key, when in noted.items() if key in self._tokens}
        try:
            tokens.replace(tokens.used_file(self._path), json.dumps(kept).encode())
        except MeterdError as error:
            log.warning("when tokens were last used is not noted: %s", error)


def _is_over(token: ApiToken, now: int) -> bool:
    return token.expires is not None and token.expires <= now


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_mode
