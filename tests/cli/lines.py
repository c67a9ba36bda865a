"""Command lines as documents show them, parsed as far as they go without running anything."""

import shlex

import click

from meterd.cli.configuration import is_target, target_settings
from meterd.cli.main import COMMANDS, cli
from meterd.config.listen import split_listen
from meterd.sim.faults import parse_faults


def words_of(line: str) -> list[str]:
    """Without the prompt, the comment behind it and `meterd` itself."""
    words = shlex.split(line, comments=True)
    assert words[0] == "meterd", line
    return words[1:]


def judge(line: str) -> click.Context:
    """Fails where meterd would answer that it does not understand this line."""
    name, *arguments = words_of(line)
    assert name in COMMANDS, f"{line}: there is no command {name}"
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    try:
        context = command.make_context(name, list(arguments))
    except click.ClickException as error:
        raise AssertionError(f"{line}: {error.format_message()}") from error
    for word in arguments:
        if is_target(word) and not word.startswith("./"):
            target_settings(word)
    if listen := context.params.get("listen"):
        split_listen(listen)
    parse_faults(context.params.get("faults") or "")
    return context
