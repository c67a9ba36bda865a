import pydantic
import pytest

from meterd.config.settings import SECTIONS, Settings, keys_at
from tests.config.judge import MINIMAL, problem, problems, settings

DEVICE = "devices: {{m: {{driver: open, link: 'tcp://h', {}}}}}\n"


def test_devices_alone_are_a_configuration() -> None:
    made = settings(MINIMAL)
    assert made.site.name == "Home"
    assert made.site.timezone == "UTC"
    assert (made.store.url, made.store.commit, made.store.keep.raw) == (
        "sqlite:///meterd.db",
        30.0,
        None,
    )
    assert (made.api.host, made.api.port) == ("127.0.0.1", 8420)
    device = made.devices["main"]
    assert (device.interval, device.direction, device.enabled) == (10.0, "normal", True)
    assert (device.timeout, device.labels, device.options.unit) == (None, {}, 1)


def test_no_configuration_is_an_empty_site() -> None:
    assert Settings().devices == {}
    assert Settings() == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        settings(MINIMAL).site.name = "x"  # type: ignore[misc]


def test_equal_files_make_equal_settings() -> None:
    assert settings(MINIMAL) == settings(MINIMAL)
    assert settings(MINIMAL) != settings(MINIMAL.replace("map: m", "map: n"))


def test_a_section_with_all_its_keys_commented_out_is_empty() -> None:
    text = "site:\nlinks:\nstore:\n  keep:\napi:\nalerts:\n  rules:\n  hooks:\n" + MINIMAL
    assert settings(text) == settings(MINIMAL)


@pytest.mark.parametrize("text", ["devices:\n", "devices: {}\n", "site: {}\n"])
def test_no_devices_is_a_mistake(text: str) -> None:
    (found,) = problems(text)
    assert (found.code, found.line, found.column) == ("C047", 1, 1)


@pytest.mark.parametrize("value", ["[a]", "7", "main"])
def test_devices_of_another_shape_are_one_mistake(value: str) -> None:
    (found,) = problems(f"devices: {value}\n")
    assert (found.code, found.column) == ("C007", 10)


@pytest.mark.parametrize("value", ["", "[driver]", "meter"])
def test_a_device_is_a_mapping(value: str) -> None:
    (found,) = problems(f"devices:\n  m: {value}\n")
    assert found.code == "C007"
    assert found.line == 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Main", "write main"),
        ("'rack ups'", "write rack-ups"),
        ("-a", "write a"),
        ("_a", "write a"),
        ("''", ""),
        ("zähler", "write z-hler"),
        ("a" * 65, "write " + "a" * 64),
        ('"a\\n"', "write a"),
    ],
)
def test_a_device_id_is_plain(name: str, hint: str) -> None:
    found = problem(f"devices:\n  {name}: {{driver: open, link: 'tcp://h'}}\n")
    assert (found.code, found.line, found.column, found.hint) == ("C030", 2, 3, hint)


@pytest.mark.parametrize("name", ["a", "7", "0-_", "a" * 64, "no", "null"])
def test_ids_of_the_contract_are_taken(name: str) -> None:
    text = f"devices:\n  {name}: {{driver: open, link: 'tcp://h'}}\n"
    assert list(settings(text).devices) == [name]


@pytest.mark.parametrize("word", ["yes", "no", "on", "1", "'True'", "null"])
def test_a_switch_is_true_or_false_and_nothing_else(word: str) -> None:
    found = problem(DEVICE.format(f"enabled: {word}"))
    assert found.code == "C022"
    assert "must be true or false" in found.what


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Brisbane", "did you mean Australia/Brisbane?"),
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("America/new york", "did you mean America/New_York?"),
        ("Australia", ""),
        ("../../etc/passwd", ""),
        ("/etc/localtime", ""),
        ("''", ""),
        ("UTC+10", ""),
    ],
)
def test_a_time_zone_must_be_real(zone: str, hint: str) -> None:
    found = problem(f"site: {{timezone: {zone}}}\n")
    assert found.code == "C031"
    if hint:
        assert found.hint == hint


@pytest.mark.parametrize("labels", ["{a: b, _c: 'd e', E_5: ''}", "{}", "null", "{a: 'ü €'}"])
def test_labels_that_prometheus_takes(labels: str) -> None:
    assert settings(DEVICE.format(f"labels: {labels}")).devices["m"].enabled


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        ("{a-b: c}", "C032"),
        ("{5a: c}", "C032"),
        ("{__a: c}", "C032"),
        ("{'': c}", "C032"),
        ("{ä: c}", "C032"),
        ("{device: c}", "C032"),
        ("{phase: c}", "C032"),
        (r'{a: "b\n"}', "C032"),
        (r'{a: "\x1b"}', "C032"),
        (r'{a: "\u2028"}', "C032"),
        (f"{{a: {'b' * 201}}}", "C032"),
        ("{a: 7}", "C022"),
        ("{a: null}", "C022"),
        ("[a]", "C007"),
    ],
)
def test_labels_that_would_break_the_metrics(labels: str, code: str) -> None:
    assert problem(DEVICE.format(f"labels: {labels}")).code == code


@pytest.mark.parametrize(
    ("link", "hint"),
    [
        ("basemnt", "did you mean basement?"),
        ("/dev/ttyUSB0", "write serial:///dev/ttyUSB0"),
        ("192.0.2.7:502", "write tcp://192.0.2.7:502"),
        ("meter.lan", "write tcp://meter.lan"),
    ],
)
def test_a_link_is_a_name_or_a_url(link: str, hint: str) -> None:
    links = "links: {basement: {url: 'tcp://h'}}\n"
    text = links + f"devices: {{m: {{driver: open, link: '{link}'}}}}\n"
    found = problem(text)
    assert (found.code, found.hint) == ("C041", hint)


def test_a_link_is_explained_where_there_are_none() -> None:
    found = problem("devices: {m: {driver: open, link: bus}}\n")
    assert found.hint == "add it to `links:`, or write a URL such as tcp://192.0.2.7:502"


def test_a_links_name_cannot_look_like_a_url() -> None:
    found = problems("links: {'tcp://h': {url: 'tcp://h'}}\n" + MINIMAL)
    assert [(p.code, p.hint) for p in found] == [("C030", "write tcp-h")]


def test_every_section_tells_its_keys() -> None:
    for path, model in SECTIONS.items():
        assert len(keys_at(path)) in (len(model.model_fields), len(model.model_fields) - 1)
    assert "for" in keys_at(("alerts", "rules", "x"))
    assert "options" not in keys_at(("devices", "x"))
    assert keys_at(("nowhere",)) == []
