"""NUT's own driver accepts the simulated UPS, finding out its protocol by itself."""

from pathlib import Path

import pytest

from meterd.sim.serve import serve_ups
from tests.sim.nut import nut

pytestmark = pytest.mark.needs("upsd", "upsc")


async def test_nut_sees_the_ups_lose_and_regain_its_mains(tmp_path: Path) -> None:
    async with serve_ups() as server, nut(server.path, tmp_path / "nut") as running:
        found = await running.wait_for("ups.status", "OL")
        view = server.ups.view()
        assert found["driver.version.data"].startswith("Megatec")
        assert found["device.mfr"] == "Meterd"
        assert found["device.model"] == "SU600"
        assert found["ups.firmware"] == "1.0"
        assert found["input.voltage.nominal"] == "230"
        assert found["battery.voltage.nominal"] == "12.0"
        assert found["ups.type"] == "offline / line interactive"
        assert float(found["input.voltage"]) == pytest.approx(view.input_voltage, abs=1.0)
        assert float(found["battery.voltage"]) == pytest.approx(view.battery_voltage, abs=0.1)
        assert int(found["battery.charge"]) == 100
        server.ups.outage(3.0)
        await running.wait_for("ups.status", "OB")
        await running.wait_for("ups.status", "OL")
