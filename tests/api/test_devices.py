from aiohttp import ClientSession

from meterd.api.devices import Device, Devices
from meterd.drivers.exclusions import LeftOut
from tests.api.fake import FakeDevice, FakeSite


async def test_every_device_is_described(client: ClientSession) -> None:
    async with client.get("/api/v1/devices") as reply:
        body = Devices.model_validate_json(await reply.read())
    main, garage = body.devices[0], body.devices[4]
    assert (main.id, main.driver, main.model, main.up) == ("main", "modbus", "eastron_sdm630", True)
    assert main.labels == {"building": "A"}
    assert main.info["info.serial_number"] == "1234"
    assert (main.latency_ms.p50, main.last_error) == (21.0, None)
    assert (garage.up, garage.since) == (False, "2026-11-21T09:58:00.000Z")
    assert garage.last_error is not None
    assert garage.last_error.code == "timeout"
    assert garage.last_error.time == "2026-11-21T09:58:00.000Z"
    assert (garage.polls, garage.failures) == (2, 1)


async def test_one_device_by_its_id(client: ClientSession) -> None:
    async with client.get("/api/v1/devices/rack-ups") as reply:
        assert Device.model_validate_json(await reply.read()).driver == "megatec"


async def test_a_device_before_its_first_poll_is_neither_up_nor_down(
    client: ClientSession, site: FakeSite
) -> None:
    site.add(FakeDevice("new"))
    async with client.get("/api/v1/devices/new") as reply:
        device = Device.model_validate_json(await reply.read())
    assert (device.up, device.since, device.latency_ms.p99) == (None, None, None)


async def test_an_unknown_device_is_404_and_says_who_is_there(client: ClientSession) -> None:
    async with client.get("/api/v1/devices/kichen") as reply:
        body = await reply.json(content_type="application/problem+json")
    assert reply.status == body["status"] == 404
    assert body["hint"] == "did you mean kitchen?"


async def test_what_a_device_does_not_answer_is_listed(
    client: ClientSession, site: FakeSite
) -> None:
    why = "the meter refuses register 13 (function 3): exception 2"
    out = LeftOut(("x.r13",), 3, (13,), None, "refused", why, 61.0, 19.5)
    limit = LeftOut((), 0, (), 80, "refused", "exception 3", 5.0, 5.0)
    site.add(FakeDevice("picky", left_out=lambda: (out, limit)))
    async with client.get("/api/v1/devices/picky") as reply:
        row, length = Device.model_validate_json(await reply.read()).left_out
    assert (row.quantities, row.registers, row.reason) == (["x.r13"], [13], why)
    assert (row.seconds, row.again_in) == (61.0, 19.5)
    assert (length.quantities, length.max_registers) == ([], 80)
