"""Certificates that tests make for themselves, with the openssl program."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate for localhost that signs itself, and its key."""

    certificate: Path
    key: Path

    @property
    def trust(self) -> ssl.SSLContext:
        """For a client that believes this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make(folder: Path, name: str = "tls", password: str = "") -> Pair:
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words += ["-days", "2", "-keyout", str(pair.key), "-out", str(pair.certificate)]
    words += ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    pair.key.chmod(0o600)
    return pair
