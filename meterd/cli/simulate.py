"""`meterd simulate`: the simulators alone, for tests and bug reports."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import click

from meterd.cli.listen_argument import host_and_port
from meterd.errors import ConfigError


@click.command(
    epilog="""\b
Examples:
  meterd simulate eastron_sdm630 --listen 127.0.0.1:5020
  meterd simulate ./my_meter.yaml --framer rtu --fault late:0.1@1.5s
  meterd simulate ups --pty /tmp/ups --outage 30s
  meterd simulate --replay meter.rec
  mbpoll -m tcp -p 5020 -0 -t 3:float -B -r 0 -c 3 -1 127.0.0.1

Faults are KIND, KIND:CHANCE, KIND:1/N or KIND:CHANCE@SECONDSs, several with commas.
Meters: timeout late wrong_unit wrong_tid zero_tid wrong_function wrong_count
lying_count truncate garbage extra duplicate dribble exception:N busy:N close
reset unplug. UPS: timeout late garbage noise truncate echo nak unplug.
"""
)
@click.argument("what", metavar="MAP|ups", required=False)
@click.option("--listen", default="127.0.0.1:5020", show_default=True, help="A meter's HOST:PORT.")
@click.option(
    "--unit",
    default=1,
    show_default=True,
    type=click.IntRange(0, 255),
    help="The unit that answers.",
)
@click.option("--framer", default="socket", type=click.Choice(["socket", "rtu"]), show_default=True)
@click.option("--pty", type=click.Path(path_type=Path), help="A link to the serial port.")
@click.option("--fault", "faults", default="", help="How to misbehave, see below.")
@click.option("--seed", default=0, help="Another seed, other accidents.")
@click.option("--outage", help="The UPS loses its mains 5 s from now for so long, e.g. 30s.")
@click.option("--replay", type=click.Path(path_type=Path), help="A file of `meterd record`.")
def command(what: str | None, replay: Path | None, **options: Any) -> None:
    """Serve a simulated meter of any register map on Modbus TCP, or a Megatec UPS on a pty.

    The values are two real days of a household. With --replay instead: the device's side of a
    recording, with its timing, on TCP, or on a pty if a serial line was recorded. What was
    never asked then gets exception 2, or silence where frames carry no transaction id.
    """
    if (what is None) == (replay is None):
        raise click.UsageError("say what to simulate: MAP|ups, or --replay FILE")
    try:
        simulator = _replay(replay, **options) if replay else _simulator(str(what), **options)
        asyncio.run(_serve(simulator))
    except KeyboardInterrupt:
        return


def _simulator(
    what: str,
    *,
    listen: str,
    unit: int,
    framer: Any,
    pty: Path | None,
    faults: str,
    seed: int,
    outage: str | None,
) -> AbstractAsyncContextManager[Any]:
    from meterd.model.duration import seconds
    from meterd.sim.faults import parse_faults
    from meterd.sim.serve import serve_meter, serve_ups
    from meterd.sim.ups import Script

    if what == "ups":
        length = seconds(outage) if outage else 0.0
        if length is None:
            raise ConfigError(f"--outage {outage!r} is no duration such as 30s")
        script = Script(((5.0, length),)) if length else None
        return serve_ups(link_path=pty, faults=parse_faults(faults), script=script, seed=seed)
    host, port = host_and_port(listen)
    return serve_meter(
        what,
        host=host,
        port=port,
        unit=unit,
        framer=framer,
        faults=parse_faults(faults),
        seed=seed,
    )


# A day of a meter that is polled each second.
_RECORDING_MAX_BYTES = 64 << 20


def _replay(
    file: Path, *, listen: str, pty: Path | None, **_: Any
) -> AbstractAsyncContextManager[Any]:
    from meterd.model.files import read_text
    from meterd.sim.replay import serve_replay
    from meterd.wire.recording import parse

    try:
        text = read_text(file, _RECORDING_MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    recording = parse(text, str(file))
    for device in recording.devices:
        click.echo(f"recorded: {device}", err=True)
    host, port = host_and_port(listen)
    serial = pty is not None or recording.head.get("link", "").startswith("serial:")
    return serve_replay(recording, host=host, port=port, pty=serial, link_path=pty)


async def _serve(simulator: AbstractAsyncContextManager[Any]) -> None:
    from meterd.daemon.service import Signals

    signals = Signals()
    async with simulator as server:
        # The only line on stdout: the URL, for `meterd poll` and scripts.
        click.echo(server.url)
        await signals.stopped()
