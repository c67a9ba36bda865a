"""Polls and a clock for tests of alerts."""

from meterd.model.sample import DOWN, Fault, Layout, Poll, Quality, QualityFlag, failed

START_MS = 1_800_000_000_000


def poll(
    value: float | None,
    at: float = 0.0,
    *,
    quantity: str = "voltage.l1",
    unit: str = "V",
    device: str = "main",
    quality: Quality = Quality.GOOD,
) -> Poll:
    """A poll with one quantity, `at` seconds after START_MS."""
    layout = Layout.of([(quantity, unit), ("device.up", "1")])
    doubts = {} if quality is Quality.GOOD else {0: QualityFlag(quality, "a test says so")}
    return Poll(device, START_MS + round(at * 1000), layout, (value, 1.0), doubts)


def other(at: float = 0.0, *, device: str = "main") -> Poll:
    """A poll of a device that is up, without the quantity."""
    return poll(50.0, at, quantity="frequency", unit="Hz", device=device)


def down(at: float = 0.0, *, device: str = "main") -> Poll:
    made = failed(device, START_MS + round(at * 1000), Fault("timeout", "no answer"))
    assert made.layout is DOWN
    return made


class FakeClock:
    """Time stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.utc = START_MS

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return self.utc

    def move(self, seconds: float) -> None:
        self.now += seconds
        self.utc += round(seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)
