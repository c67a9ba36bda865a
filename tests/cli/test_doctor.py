"""`meterd doctor`: each line says how it is and what to do; it changes nothing."""

import errno
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from meterd.cli import checks
from meterd.store.db import store_url
from tests.cli.stores import CONFIGURATION, Site
from tests.ports import free_port


def findings(site: Site) -> tuple[int, list[dict[str, Any]]]:
    done = site("doctor", "--format", "json")
    return done.code, json.loads(done.out)["findings"]


def of(found: list[dict[str, Any]], area: str) -> list[tuple[str, str]]:
    return [(one["state"], one["what"]) for one in found if one["area"] == area]


def write(site: Site, more: str, link: str = "tcp://127.0.0.1:502") -> None:
    text = CONFIGURATION.replace("tcp://127.0.0.1:502", link)
    site.config.write_text(f'{text}{more}\nstore: {{url: "sqlite:///{site.path}"}}\n')


def files_in(site: Site) -> list[str]:
    """But for those that SQLite makes for every reader."""
    names = (file.name for file in site.folder.iterdir())
    return sorted(name for name in names if not name.endswith(("-wal", "-shm")))


@pytest.fixture
def port() -> int:
    return free_port()


def test_nothing_wrong_is_exit_code_0(site: Site, port: int) -> None:
    write(site, f"api: {{listen: '127.0.0.1:{port}'}}")
    before = files_in(site)
    code, found = findings(site)
    assert code == 0, found
    assert of(found, "port") == [("ok", f"api.listen 127.0.0.1:{port} is free")]
    assert any("schema" in what for _, what in of(found, "store"))
    assert of(found, "link")[0][0] == "ok"
    assert files_in(site) == before


def test_what_is_wrong_comes_with_what_to_do(empty: Site, port: int) -> None:
    write(empty, f"api: {{listen: '127.0.0.1:{port}'}}", link="serial:///dev/ttyNowhere0")
    code, found = findings(empty)
    assert code == 1
    assert of(found, "link") == [("wrong", "/dev/ttyNowhere0 is not there")]
    assert all(one["todo"] for one in found if one["state"] == "wrong")
    assert not empty.path.exists()


def test_a_host_without_an_address_is_wrong(empty: Site) -> None:
    write(empty, "", link="tcp://no-such-host.invalid:502")
    code, found = findings(empty)
    ((state, what),) = of(found, "link")
    assert (code, state) == (1, "wrong")
    assert "no-such-host.invalid" in what


def test_a_port_that_is_taken_is_told(empty: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        write(empty, f"api: {{listen: '127.0.0.1:{number}'}}")
        _, found = findings(empty)
    ((state, what),) = of(found, "port")
    assert state == "wrong"
    assert "in use" in what


def test_a_running_meterd_may_use_its_port(site: Site) -> None:
    lock = store_url.find(f"sqlite:///{site.path}").lock()
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            number = server.getsockname()[1]
            write(site, f"api: {{listen: '127.0.0.1:{number}'}}")
            code, found = findings(site)
        assert code == 0, found
        assert ("ok", checks.RUNNING) in of(found, "store")
        assert of(findings(site)[1], "port")[0][0] == "wrong"
    finally:
        lock.release()


def test_a_bad_configuration_ends_it_with_its_first_mistake(empty: Site) -> None:
    empty.config.write_text("devices: {main: {driver: nothing}}\n")
    code, found = findings(empty)
    assert code == 1
    ((state, what),) = of(found, "configuration")
    assert state == "wrong"
    assert "meterd.yaml:1" in what


def test_a_folder_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    (found, *_) = checks.store(f"sqlite:///{tmp_path}/usb/meterd.db")
    assert found.state == "wrong"
    assert "mount its disk" in found.todo


def test_a_full_disk_and_a_clock_that_was_never_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    import time

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    found = list(checks.store(f"sqlite:///{tmp_path}/meterd.db"))
    assert [one.state for one in found if "are free" in one.what] == ["wrong"]
    assert checks.clock().state in ("ok", "warning")
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    assert checks.clock().state == "wrong"


def test_a_foreign_address_is_no_place_to_listen() -> None:
    assert checks._bind_errno("192.0.2.77", 8420) == errno.EADDRNOTAVAIL
