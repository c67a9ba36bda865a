"""The `meterd` command: imports commands lazily, and maps errors to exit codes."""

import importlib
import keyword
import sys
from typing import Any

import click

from meterd import __version__
from meterd.cli.terminal import escaping_streams
from meterd.errors import ConfigError, MeterdError, StoreCode, StoreError

COMMANDS = {
    "run": "the daemon",
    "check": "validate the configuration and show each bus's plan",
    "poll": "read devices once, with or without a configuration",
    "demo": "a simulated site, polled for real; nothing to configure",
    "simulate": "the simulators alone, for tests and bug reports",
    "scan": "who answers on a bus, and which register map fits",
    "probe": "one register in every decoding",
    "record": "all bytes of a link while it is polled, to play back",
    "maps": "the register maps, or one of them",
    "drivers": "the drivers that are installed",
    "devices": "the devices of the configuration",
    "energy": "consumption by hour, day, month or year, and what it costs",
    "db": "the store: info, check, backup, restore, compact, move",
    "export": "every sample as CSV, NDJSON, OpenMetrics or Parquet",
    "import": "history from CSV files of other systems",
    "correct": "mark an interval of wrong values as invalid, or undo that",
    "doctor": "what is wrong around meterd, and what to do",
    "token": "keys for programs that ask the API",
}

EXIT_FAILURE = 1
EXIT_FINDINGS = 3
EXIT_SOME_FAILED = 4
EXIT_ALL_FAILED = 5
EXIT_RUNNING = 75
EXIT_CONFIG = 78

_EPILOG = """\b
Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 warnings (check --strict),
4 some devices failed, 5 all devices failed, 75 already running,
78 bad configuration.
"""


class LazyGroup(click.Group):
    """Imports a command's module when it is called; `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        # `import` is a keyword of Python.
        module = f"{name}_" if keyword.iskeyword(name) else name
        command: click.Command = importlib.import_module(f"meterd.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            import difflib

            matches = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {matches[0]}?" if matches else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="meterd")
def cli() -> None:
    """Polls energy meters and UPSes, keeps what they say, and serves it."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code."""
    with escaping_streams():
        code = _run(arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _run(arguments: list[str] | None) -> Any:
    try:
        code: Any = cli.main(args=arguments, prog_name="meterd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = EXIT_FAILURE
    except MeterdError as error:
        code = _report_error(error)
    except BrokenPipeError:
        # The reader has closed the pipe, as in `meterd maps | head`.
        sys.stderr.close()
        code = 0
    except (OSError, UnicodeError, MemoryError, RecursionError) as error:
        # Errors of the machine or the input that no command maps to a MeterdError.
        click.echo(f"error: {type(error).__name__}: {error}", err=True)
        code = EXIT_FAILURE
    return code


def _report_error(error: MeterdError) -> int:
    problems = error.problems if isinstance(error, ConfigError) else ()
    for line in map(str, problems or [f"error: {error}"]):
        click.echo(line, err=True)
    if isinstance(error, ConfigError) or error.code == StoreCode.NEWER_SCHEMA:
        return EXIT_CONFIG
    is_running = isinstance(error, StoreError) and error.code == StoreCode.ALREADY_RUNNING
    return EXIT_RUNNING if is_running else EXIT_FAILURE
