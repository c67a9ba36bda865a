"""The option `--listen HOST:PORT` of several commands."""

from meterd.errors import ConfigError


def host_and_port(listen: str) -> tuple[str, int]:
    """Split into host and port. Raises ConfigError."""
    from meterd.config.codes import ValueFlawError
    from meterd.config.listen import split_listen

    try:
        return split_listen(listen)
    except ValueFlawError as error:
        text = f"--listen {listen!r} is not HOST:PORT, such as 127.0.0.1:8420"
        raise ConfigError(text) from error


def check_loopback(listen: str) -> None:
    """Raise ConfigError where the address is not a loopback one."""
    from meterd.config.listen import is_loopback

    host, _ = host_and_port(listen)
    if not is_loopback(host):
        text = f"--listen {listen}: others can reach that: add --insecure if they may, or take"
        raise ConfigError(f"{text} 127.0.0.1")
