"""`--listen HOST:PORT` as commands take it."""

from meterd.errors import ConfigError


def place(listen: str) -> tuple[str, int]:
    """Host and port. Raises ConfigError."""
    from meterd.config.codes import ValueFlawError
    from meterd.config.listen import split_listen

    try:
        return split_listen(listen)
    except ValueFlawError as error:
        text = f"--listen {listen!r} is not HOST:PORT, such as 127.0.0.1:8420"
        raise ConfigError(text) from error


def check_alone(listen: str) -> None:
    """Raises ConfigError where others can reach the address, too."""
    from meterd.config.listen import is_loopback

    host, _ = place(listen)
    if not is_loopback(host):
        text = f"--listen {listen}: others can reach that: add --insecure if they may, or take"
        raise ConfigError(f"{text} 127.0.0.1")
