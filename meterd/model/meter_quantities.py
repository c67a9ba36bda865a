"""The quantities of energy meters, in IEC terms, with OBIS codes where there are any.

OBIS codes are C.D.E of IEC 62056-6-1 (DLMS UA Blue Book, tables for electricity, A=1):
the phases add 20, 40 and 60 to C, the neutral 80.
Energy is in Wh, not J, as on meters and bills.
"""

from collections.abc import Iterator
from itertools import product

from meterd.model.family import CHANNELS, LINES, MIN_MAGNITUDE, PHASES, Kind, Quantity, family


def _reactive_power() -> Iterator[Quantity]:
    # Net reactive power is C = 131, and 151, 171, 191 for the phases.
    return family(
        "reactive_power", "var", "Reactive power", "", *PHASES, obis=(131, "7.0"), high=1e10
    )


def _energy(name: str, unit: str, text: str, c: int | None) -> Iterator[Quantity]:
    """An energy register, its phases, its tariffs t1 to t4, and its resettable counter."""
    kind = Kind.COUNTER
    obis = (c, "8.0") if c is not None else None
    yield from family(name, unit, text, "", *PHASES, kind=kind, obis=obis)
    for tariff in range(1, 5):
        code = (c, f"8.{tariff}") if c is not None else None
        yield from family(
            f"{name}.t{tariff}", unit, f"{text}, tariff {tariff}", kind=kind, obis=code
        )
    yield from family(f"{name}.partial", unit, f"{text}, resettable", kind=kind)


def _net(name: str, unit: str, text: str, c: int | None) -> Iterator[Quantity]:
    """Import less export, which may fall, so it is a gauge."""
    obis = (c, "8.0") if c is not None else None
    yield from family(name, unit, text, "", *PHASES, obis=obis)
    yield from family(f"{name}.partial", unit, f"{text}, resettable")


def _demand(name: str, unit: str, text: str, c: int | None, *phases: str) -> Iterator[Quantity]:
    mean = (c, "4.0") if c is not None else None
    peak = (c, "6.0") if c is not None else None
    yield from family(f"demand.{name}", unit, f"{text} demand", *phases, obis=mean)
    yield from family(f"demand.{name}.max", unit, f"{text} demand, maximum", *phases, obis=peak)
    yield from family(f"demand.{name}.min", unit, f"{text} demand, minimum", *phases)


def _instantaneous() -> Iterator[Quantity]:
    yield from family(
        "voltage", "V", "Voltage", "", *PHASES, "n", "dc", "pe", obis=(12, "7.0"), high=1e6
    )
    yield from family("voltage", "V", "Voltage between lines", *LINES, high=1e6)
    yield from family("voltage", "V", "Voltage to neutral", "avg", high=1e6)
    yield from family("voltage.ll", "V", "Voltage between lines", "avg", high=1e6)
    # C = 90 is the sum of the currents, 91 the neutral's.
    yield Quantity(
        "current", "A", Kind.GAUGE, "Current, sum", obis="90.7.0", low=MIN_MAGNITUDE, high=1e6
    )
    yield from family("current", "A", "Current", *PHASES, "n", obis=(11, "7.0"), high=1e6)
    others = ("avg", "dc", "ground", "residual", "i4", *CHANNELS)
    yield from family("current", "A", "Current", *others, high=1e6)
    yield from family("active_power", "W", "Active power", "", *PHASES, obis=(16, "7.0"), high=1e10)
    yield from family("active_power", "W", "Active power", "dc", *CHANNELS, high=1e10)
    # Meters without a signed power have a register per direction.
    for direction, c in (("import", 1), ("export", 2)):
        text = f"Active power, {direction} only"
        name = f"active_power.{direction}"
        yield from family(name, "W", text, "", *PHASES, obis=(c, "7.0"), high=1e10)
    yield from _reactive_power()
    for load in ("inductive", "capacitive"):
        text = f"Reactive power, {load}"
        yield from family(f"reactive_power.{load}", "var", text, "", *PHASES, high=1e10)
    yield from family(
        "apparent_power", "VA", "Apparent power", "", *PHASES, obis=(9, "7.0"), high=1e10
    )
    # Schneider codes the quadrant into a power factor of -2 to 2.
    yield from family("power_factor", "1", "Power factor", "", *PHASES, obis=(13, "7.0"), high=2)
    yield from family(
        "power_factor.displacement", "1", "Power factor of the fundamental", "", *PHASES, high=2
    )
    # From 15 Hz: railways have 16.7 Hz; a wrong word order gives denormals.
    yield from family("frequency", "Hz", "Frequency", obis=(14, "7.0"), low=15, high=440)


def _angles() -> Iterator[Quantity]:
    yield from family("phase_angle", "°", "Current against voltage", "", high=360)
    # 81.7.xy is the angle of x (4 to 6: currents) to y (0 to 2: voltages), phases from 0.
    for number, phase in enumerate(PHASES):
        yield Quantity(
            f"phase_angle.{phase}",
            "°",
            Kind.GAUGE,
            f"Current against voltage, {phase.upper()}",
            phase,
            obis=f"81.7.{11 * number + 4}",
            low=MIN_MAGNITUDE,
            high=360,
        )
    yield from family("power_factor.angle", "°", "Angle of the power factor", "", high=360)
    yield from family("voltage_angle", "°", "Voltage against voltage L1", *PHASES, high=360)
    yield from family("current_angle", "°", "Current against voltage L1", *PHASES, high=360)


def _quality() -> Iterator[Quantity]:
    """Power quality: total harmonic distortion and unbalance."""
    for name, text, c, neutral in (("voltage", "voltage", 12, ()), ("current", "current", 11, "n")):
        # E = 124 is the total harmonic distortion.
        phases = (*PHASES, *neutral)
        yield from family(
            f"thd.{name}", "%", f"THD of {text}", *phases, obis=(c, "7.124"), high=1e3
        )
        yield from family(f"thd.{name}", "%", f"THD of {text}", "avg", high=1e3)
    yield from family("thd.voltage", "%", "THD of voltage between lines", *LINES, high=1e3)
    yield from family("thd.voltage.ll", "%", "THD of voltage between lines", "avg", high=1e3)
    yield from family("unbalance.voltage", "%", "Voltage unbalance", "", *PHASES, *LINES, high=1e3)
    yield from family("unbalance.voltage.ll", "%", "Unbalance of voltages between lines", high=1e3)
    yield from family("unbalance.current", "%", "Current unbalance", "", *PHASES, high=1e3)


def _peaks() -> Iterator[Quantity]:
    """Minima and maxima since the meter's last reset."""
    yield from family("voltage.max", "V", "Highest voltage", *PHASES, *LINES, high=1e6)
    yield from family("current.max", "A", "Highest current", *PHASES, high=1e6)
    for name, unit, text in (
        ("active_power", "W", "active power"),
        ("reactive_power", "var", "reactive power"),
        ("apparent_power", "VA", "apparent power"),
    ):
        yield from family(f"{name}.max", unit, f"Highest {text}", "", *PHASES, high=1e10)
        yield from family(f"{name}.min", unit, f"Lowest {text}", "", *PHASES, high=1e10)


def _demands() -> Iterator[Quantity]:
    # Makers do not always say whether demand is of import or of the sum: no OBIS code.
    yield from _demand("active_power", "W", "Active power", None, "", *PHASES)
    yield from _demand("active_power.import", "W", "Imported active power", 1, "")
    yield from _demand("active_power.export", "W", "Exported active power", 2, "")
    yield from _demand("reactive_power", "var", "Reactive power", None, "")
    yield from _demand("reactive_power.import", "var", "Imported reactive power", 3, "")
    yield from _demand("reactive_power.export", "var", "Exported reactive power", 4, "")
    yield from _demand("apparent_power", "VA", "Apparent power", 9, "")
    yield from _demand("current", "A", "Current", 11, *PHASES, "n")
    yield from _demand("current", "A", "Current", None, "", "avg")


def _states() -> Iterator[Quantity]:
    """States of the meter itself."""
    sensors = ("ambient", "heatsink", "transformer", "other", *CHANNELS[:4])
    yield from family("temperature", "°C", "Temperature", "", *sensors, high=200)
    yield from family("tariff", "1", "Tariff that counts now")
    yield from family("phase_sequence", "1", "Phase sequence: 1 right, -1 left, 0 none")
    yield from family("phase_sequence.fault", "1", "Phase sequence: 0 right, else wrong")
    yield from family("alarm", "1", "The meter's own alarm: 0 none, else alarm")
    yield from family("relay", "1", "The meter's switch: 1 on, 0 off", high=1)
    yield from family("load", "%", "Load of what it is made for", high=1000)
    yield from family("efficiency", "%", "Efficiency", high=200)
    yield from family("operating_time", "s", "Time in operation", kind=Kind.COUNTER)
    yield from family("power_interruptions", "1", "Losses of supply", kind=Kind.COUNTER)


def _energies() -> Iterator[Quantity]:
    for name, unit, text, c_in, c_out, c_sum, c_net in (
        ("active_energy", "Wh", "Active energy", 1, 2, 15, 16),
        ("reactive_energy", "varh", "Reactive energy", 3, 4, None, 131),
        ("apparent_energy", "VAh", "Apparent energy", 9, 10, None, None),
    ):
        yield from _energy(f"{name}.import", unit, f"{text} taken from the grid", c_in)
        yield from _energy(f"{name}.export", unit, f"{text} given to the grid", c_out)
        yield from _energy(f"{name}.total", unit, f"{text}, import plus export", c_sum)
        yield from _net(f"{name}.net", unit, f"{text}, import less export", c_net)
    for direction, text in (("import", "taken from"), ("export", "given to")):
        text_of_direction = f"Active energy {text} the grid"
        yield from family(
            f"active_energy.{direction}", "Wh", text_of_direction, *CHANNELS, kind=Kind.COUNTER
        )
    # Falls to 0 at midnight, so it is no counter that only rises.
    yield from family("active_energy.today", "Wh", "Active energy since midnight")
    yield from _reactive_quadrants()
    yield from _loads()


def _loads() -> Iterator[Quantity]:
    for load in ("inductive", "capacitive"):
        yield from _energy(f"reactive_energy.{load}", "varh", f"Reactive energy, {load}", None)
    kinds = (("reactive_energy", "varh", "Reactive"), ("apparent_energy", "VAh", "Apparent"))
    for (name, unit, text), load, direction in product(
        kinds, ("inductive", "capacitive"), ("import", "export")
    ):
        quantity = f"{name}.{load}.{direction}"
        words = f"{text} energy, {load}, {direction}"
        yield from family(quantity, unit, words, "", *PHASES, kind=Kind.COUNTER)


def _reactive_quadrants() -> Iterator[Quantity]:
    """C = 5 to 8: Q1 and Q2 are import, Q3 and Q4 export of reactive energy."""
    for number in range(1, 5):
        yield from family(
            f"reactive_energy.q{number}",
            "varh",
            f"Reactive energy, quadrant {number}",
            "",
            *PHASES,
            kind=Kind.COUNTER,
            obis=(4 + number, "8.0"),
        )


def meters() -> Iterator[Quantity]:
    yield from _instantaneous()
    yield from _angles()
    yield from _quality()
    yield from _energies()
    yield from _demands()
    yield from _peaks()
    yield from _states()
