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


EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("rsa:2048",)


def make(
    folder: Path,
    name: str = "tls",
    password: str = "",
    *,
    kind: tuple[str, ...] = EC,
    days: int = 200,
) -> Pair:
    """`kind` is that of the key, as openssl calls it."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    words = ["openssl", "req", "-x509", "-newkey", *kind]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words += ["-days", str(days), "-keyout", str(pair.key), "-out", str(pair.certificate)]
    words += ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    pair.key.chmod(0o600)
    return pair
