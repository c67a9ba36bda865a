"""The quantities of UPSes, named as in NUT's docs/nut-names.txt."""

from collections.abc import Iterator

from meterd.model.family import MIN_MAGNITUDE, PHASES, Kind, Quantity, family


def upses() -> Iterator[Quantity]:
    for name, unit, text, high in (
        ("input.voltage", "V", "Input voltage", 600),
        ("input.voltage.fault", "V", "Input voltage at the last transfer", 600),
        ("input.voltage.nominal", "V", "Nominal input voltage", 600),
        ("input.current.nominal", "A", "Nominal input current", 1e4),
        ("input.frequency", "Hz", "Input frequency", 440),
        ("input.frequency.nominal", "Hz", "Nominal input frequency", 440),
        ("output.voltage", "V", "Output voltage", 600),
        ("output.voltage.nominal", "V", "Nominal output voltage", 600),
        ("output.current.nominal", "A", "Nominal output current", 1e4),
        ("output.frequency", "Hz", "Output frequency", 440),
        ("output.frequency.nominal", "Hz", "Nominal output frequency", 440),
        ("battery.voltage", "V", "Battery voltage", 1000),
        ("battery.voltage.nominal", "V", "Nominal battery voltage", 1000),
        ("battery.voltage.low", "V", "Battery voltage taken as empty", 1000),
        ("battery.voltage.high", "V", "Battery voltage taken as full", 1000),
        ("battery.charge", "%", "Battery charge", 100),
        ("battery.runtime", "s", "Battery runtime left", 1e7),
        ("battery.packs", "1", "Number of battery packs", 1000),
        ("battery.packs.bad", "1", "Number of bad battery packs", 1000),
        ("battery.packs.external", "1", "Number of external battery packs", 1000),
        ("battery.current", "A", "Battery current", 1e5),
        ("battery.temperature", "°C", "Battery temperature", 200),
        ("input.voltage.maximum", "V", "Highest input voltage", 600),
        ("input.voltage.minimum", "V", "Lowest input voltage", 600),
        ("input.bypass.frequency", "Hz", "Bypass frequency", 440),
        ("ups.load", "%", "Load", 1000),
        ("ups.temperature", "°C", "UPS temperature", 200),
    ):
        yield Quantity(name, unit, Kind.GAUGE, text, nut=name, low=MIN_MAGNITUDE, high=high)
    yield from _ups_phases()
    # No NUT name: positive is charging.
    yield from family("battery.power", "W", "Power into the battery", high=1e7)
    for letters, text in (
        ("ol", "on line"),
        ("ob", "on battery"),
        ("lb", "battery low"),
        ("bypass", "on bypass"),
        ("boost", "raising the input voltage"),
        ("trim", "lowering the input voltage"),
        ("cal", "calibrating"),
        ("test", "testing its battery"),
        ("off", "output off"),
        ("alarm", "alarm"),
        ("fsd", "forced shutdown"),
        ("over", "overloaded"),
        ("rb", "asks for a new battery"),
    ):
        yield Quantity(
            f"ups.status.{letters}", "1", Kind.GAUGE, f"UPS {text}", nut="ups.status", high=1
        )
    yield Quantity("ups.beeper", "1", Kind.GAUGE, "Beeper on", nut="ups.beeper.status", high=1)


def _ups_phases() -> Iterator[Quantity]:
    """NUT puts the phase into the middle: input.L1-N.voltage, output.L1.current."""
    for name, unit, text, nut, high in (
        ("input.voltage", "V", "Input voltage", "input.{}-N.voltage", 600),
        ("input.bypass.voltage", "V", "Bypass voltage", "input.bypass.{}-N.voltage", 600),
        ("output.voltage", "V", "Output voltage", "output.{}-N.voltage", 600),
        ("output.current", "A", "Output current", "output.{}.current", 1e5),
        ("output.realpower", "W", "Output active power", "output.{}.realpower", 1e7),
        ("output.power", "VA", "Output apparent power", "output.{}.power", 1e7),
    ):
        for phase in PHASES:
            yield Quantity(
                f"{name}.{phase}",
                unit,
                Kind.GAUGE,
                f"{text}, {phase.upper()}",
                phase,
                nut=nut.format(phase.upper()),
                low=MIN_MAGNITUDE,
                high=high,
            )
