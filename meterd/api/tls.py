"""TLS from a certificate and a key in files, which are read again when they change."""

import logging
import ssl
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from meterd.api.validity import DAY, SIZE_LIMIT, Validity, validity
from meterd.errors import GeneralCode, MeterdError

log = logging.getLogger("meterd.api")

# Seconds between two looks at the files.
LOOK_EVERY = 10.0

Stamp = tuple[tuple[int, ...], ...]

Tell = Callable[[str, Mapping[str, str | int | float | bool | None]], None]
"""Is told what happened to the certificate: a sentence, and the facts."""


def _log(text: str, data: Mapping[str, object]) -> None:
    log.warning("%s", text)


class Certificate:
    """A server's certificate. `context` is replaced at each renewal: do not keep it.

    One context cannot serve a renewal: OpenSSL keeps a chain for each kind of key in it, so a
    certificate with an RSA key would stand beside the old one with an EC key, and clients go on
    getting the old one.
    """

    def __init__(self, certificate: Path, key: Path, tell: Tell = _log) -> None:
        self._files = (certificate, key)
        self._tell = tell
        self._stamp = self._stamps()
        self._told = ""  # what is wrong with the files as they are
        self._flaw = ""
        self._flaw_day = 0.0
        self.context = self._load()
        self.validity = self._read_validity()

    @property
    def expires(self) -> float | None:
        """When the certificate in use expires, Unix seconds; None where it cannot be read."""
        return None if self.validity is None else self.validity.end

    def watch(self, now: float | None = None) -> bool:
        """Reloads renewed files, and warns of the expiry. `now` is Unix seconds."""
        is_new = self.renew()
        self.warn(time.time() if now is None else now)
        return is_new

    def renew(self) -> bool:
        """Loads changed files; True where there were any. Files that cannot be used change nothing.

        Files that are half written are looked at again until they fit. New connections get the
        new certificate; those that are open keep theirs.
        """
        stamp = self._stamps()
        if stamp == self._stamp:
            return False
        try:
            context = self._load()
            validity = self._read_validity()
        except MeterdError as error:
            self._complain(str(error))
            return False
        self.context, self.validity = context, validity
        # What changed while it was read is seen at the next look.
        self._stamp, self._told, self._flaw = stamp, "", ""
        facts = {"file": str(self._files[0]), "expires": self.expires, "usable": True}
        self._tell(f"the certificate {self._files[0]} was renewed", facts)
        return True

    def _complain(self, text: str) -> None:
        if text != self._told:
            self._told = text
            facts = {"file": str(self._files[0]), "expires": self.expires, "usable": False}
            self._tell(f"the old certificate stays in use: {text}", facts)

    def warn(self, now: float) -> None:
        """Logs once a day that the certificate expires, or has expired."""
        flaw = "" if self.validity is None else self.validity.flaw(now)
        if not flaw:
            self._flaw = ""
            return
        kind = flaw.split(maxsplit=1)[0]
        if kind == self._flaw and abs(now - self._flaw_day) < DAY:
            return
        self._flaw, self._flaw_day = kind, now
        facts = {"file": str(self._files[0]), "expires": self.expires, "usable": True}
        self._tell(f"the certificate {self._files[0]} {flaw}", facts)

    def _load(self) -> ssl.SSLContext:
        """Raises MeterdError where the files are no certificate with its key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # Without a password to give, OpenSSL would ask the terminal.
        try:
            for file in self._files:
                _need_file(file)
            context.load_cert_chain(*self._files, password=lambda: b"")
        except (OSError, ValueError) as error:
            certificate, key = self._files
            text = f"{certificate} and {key} are no certificate and its key: {error}"
            raise MeterdError(text, code=GeneralCode.TLS) from error
        return context

    def _read_validity(self) -> Validity | None:
        return validity_of(self._files[0])

    def _stamps(self) -> Stamp:
        stamps: list[tuple[int, ...]] = []
        for file in self._files:
            try:
                file_stat = file.stat()
            except (OSError, ValueError):
                stamps.append(())
            else:
                # ctime, too: permissions may have been what was wrong.
                stamps.append(
                    (
                        file_stat.st_ino,
                        file_stat.st_mtime_ns,
                        file_stat.st_ctime_ns,
                        file_stat.st_size,
                    )
                )
        return tuple(stamps)


def validity_of(file: Path) -> Validity | None:
    """Of a certificate's file. Raises MeterdError where it cannot be read."""
    try:
        _need_file(file)
        with file.open("rb") as stream:
            return validity(stream.read(SIZE_LIMIT))
    except (OSError, ValueError) as error:
        raise MeterdError(f"{file} cannot be read: {error}", code=GeneralCode.TLS) from error


def _need_file(file: Path) -> None:
    """OpenSSL would read a device for ever. Raises OSError or ValueError."""
    file_stat = file.stat()
    if not stat.S_ISREG(file_stat.st_mode):
        raise ValueError(f"{file} is no file")
    if file_stat.st_size > SIZE_LIMIT:
        raise ValueError(f"{file} is larger than {SIZE_LIMIT >> 10} KiB")
