"""`meterd check` says what `meterd run` would refuse: a door that nobody could open."""

from pathlib import Path

import pytest

from tests.cli.inside import inside

SITE = """\
devices: {{ups: {{driver: megatec, link: "serial:///dev/nowhere"}}}}
store: {{url: "sqlite:///{folder}/meterd.db"}}
api: {{listen: "127.0.0.1:8420", login: always}}
"""


def test_a_door_without_a_key_is_found_before_the_daemon_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "meterd.yaml"
    config.write_text(SITE.format(folder=tmp_path), "utf-8")
    done = inside(capsys, "check", "-c", str(config))
    assert done.code == 78
    assert "nobody could log in" in done.err
    assert "meterd token add" in done.err
    assert inside(capsys, "token", "add", "phone", "-c", str(config)).code == 0
    assert inside(capsys, "check", "-c", str(config)).code == 0
