"""What `check` and `doctor` say of the certificate that the API is to serve."""

import json
from pathlib import Path

import pytest

from tests.api.certificates import Pair, make
from tests.cli.inside import inside

pytestmark = pytest.mark.needs("openssl")

SITE = """\
devices: {{ups: {{driver: megatec, link: "serial:///dev/nowhere"}}}}
store: {{url: "sqlite:///{folder}/meterd.db"}}
api:
  listen: "127.0.0.1:8420"
  tls: {{certificate: {pair.certificate}, key: {pair.key}}}
"""


def config(folder: Path, pair: Pair) -> str:
    file = folder / "meterd.yaml"
    file.write_text(SITE.format(folder=folder, pair=pair), "utf-8")
    return str(file)


@pytest.mark.parametrize(("days", "state"), [(200, "ok"), (15, "ok"), (1, "warning")])
def test_how_long_it_is_valid_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: int, state: str
) -> None:
    from meterd.api.tls import validity_of

    pair = make(tmp_path, days=days)
    found = validity_of(pair.certificate)
    assert found is not None
    with pytest.MonkeyPatch.context() as patch:
        late = found.end - (3600 if days == 1 else found.end - found.start)
        patch.setattr("time.time", lambda: late)
        checked = inside(capsys, "check", "-c", config(tmp_path, pair))
        seen = inside(capsys, "doctor", "-c", config(tmp_path, pair), "--format", "json")
    assert checked.code == 0
    assert ("expires in 0 days" in checked.err) is (state == "warning")
    (one,) = [f for f in json.loads(seen.out)["findings"] if f["area"] == "certificate"]
    assert one["state"] == state


def test_what_cannot_be_served_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, other = make(tmp_path), make(tmp_path, "other")
    mixed = Pair(pair.certificate, other.key)
    checked = inside(capsys, "check", "-c", config(tmp_path, mixed))
    assert checked.code == 78
    assert "are no certificate" in checked.err
    seen = inside(capsys, "doctor", "-c", config(tmp_path, mixed), "--format", "json")
    assert any("are no certificate" in one["what"] for one in json.loads(seen.out)["findings"])
    assert seen.code == 1
