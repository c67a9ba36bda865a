"""TLS from a certificate and a key in files, which are read again when they change."""

import logging
import ssl
from pathlib import Path

from meterd.errors import MeterdError

log = logging.getLogger("meterd.api")

# Seconds between two looks at the files.
LOOK_EVERY = 10.0

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A server's certificate; `context` stays the same object when the files are renewed."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._stamp = self._look()
        self.context = self._load()

    def renew(self) -> bool:
        """Take what is new; True where something was. What cannot be used changes nothing.

        New connections get the new certificate; those that are open keep theirs.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            # On trial first: a certificate without its key would stop every handshake.
            self._load()
            self.context.load_cert_chain(*self._files)
        except (MeterdError, OSError, ValueError) as error:
            log.error("the old certificate stays in use: %s", error)
            return False
        log.info("%s was read anew", self._files[0])
        return True

    def _load(self) -> ssl.SSLContext:
        """Raises MeterdError where the files are no certificate with its key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # Without a password to give, OpenSSL would ask the terminal.
        try:
            context.load_cert_chain(*self._files, password=lambda: b"")
        except (OSError, ValueError) as error:
            certificate, key = self._files
            text = f"{certificate} and {key} are no certificate and its key: {error}"
            raise MeterdError(text, code="tls") from error
        return context

    def _look(self) -> Stamp:
        stamps = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(stamps)
