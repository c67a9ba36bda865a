"""`meterd token`: makes, lists and revokes API tokens; hashes passwords."""

import re
import time
from pathlib import Path
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_settings
from meterd.errors import GeneralCode, MeterdError

_COLUMNS = ("name", "scopes", "created", "last_used", "expires", "state")
_TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SCOPES = ("read", "admin", "command")


@click.group(
    epilog="""\b
Examples:
  meterd token add grafana
  meterd token add phone --scope admin --expires 90d
  meterd token list --format json
  meterd token revoke phone
  meterd token hash
"""
)
def command() -> None:
    """Tokens for the API; a daemon that runs knows of a change within a second.

    Whoever has a token says `Authorization: Bearer TOKEN`, or gives it as the password of
    any user.
    """


@command.command("add")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(_SCOPES),
    default=("read",),
    show_default=True,
    help="What it may do; can be given again. Every token may read.",
)
@click.option("--expires", metavar="DURATION", help="Such as 90d; default never.")
@config_option
def _add(name: str, scopes: tuple[str, ...], expires: str | None, config: Path | None) -> None:
    """Make a token and print it: this once, it is kept nowhere."""
    from meterd.api.auth import tokens

    if not _TOKEN_NAME.fullmatch(name):
        raise click.UsageError("a token's name is up to 64 letters, digits and . _ @ -")
    now = int(time.time())
    until = None if expires is None else now + _lifetime_s(expires)
    path = _file(config)
    secret = tokens.add(path, name, tuple(dict.fromkeys(scopes)), now, until)
    click.echo(secret)
    click.echo(f"Kept in {path} as a hash only: it is not shown again.", err=True)


@command.command("list")
@config_option
@output.format_option
def _list(config: Path | None, format_: str | None) -> None:
    """List the tokens: names, scopes, times; never the tokens."""
    from meterd.api.auth import tokens

    path = _file(config)
    used = tokens.last_used(path)
    now = int(time.time())
    rows: list[dict[str, Any]] = [
        {
            "name": token.name,
            "scopes": ",".join(token.scopes),
            "created": tokens.spell(token.created),
            "last_used": tokens.spell(used.get(token.hash)),
            "expires": tokens.spell(token.expires),
            "state": "expired" if token.expires and token.expires <= now else "valid",
        }
        for token in tokens.load(path)
    ]
    output.show(_COLUMNS, rows, format_, rows, minor=("created", "last_used", "scopes"))


@command.command("revoke")
@click.argument("name")
@config_option
def _revoke(name: str, config: Path | None) -> None:
    """Take a token away: it opens nothing any more."""
    from meterd.api.auth import tokens

    path = _file(config)
    tokens.revoke(path, name)
    click.echo(f"{name} is revoked; a daemon that runs knows within a second.", err=True)


@command.command("hash")
def _hash() -> None:
    """Ask for a password; print what `password_hash:` of a user takes."""
    from meterd.api.auth.passwords import hashed

    password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(password) < 8:
        raise MeterdError("a password has at least 8 characters", code=GeneralCode.PASSWORD)
    click.echo(hashed(password))


def _lifetime_s(text: str) -> int:
    from meterd.model.duration import seconds

    lifetime = seconds(text)
    if lifetime is None or not 60 <= lifetime <= 36_500 * 86_400:
        raise click.UsageError("--expires takes a duration from 1m to 36500d, such as 90d")
    return int(lifetime)


def _file(config: Path | None) -> Path:
    settings = load_settings(config)
    return settings.api.token_file(settings.store.url).absolute()
