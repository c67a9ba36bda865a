"""meterd: polls energy meters and UPSes, keeps what they say, and serves it."""

__version__ = "0.1.0"
