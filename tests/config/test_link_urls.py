import pytest

from meterd.config.link_urls import check_link, link_flaw


@pytest.mark.parametrize(
    "url",
    [
        "tcp://192.0.2.7:502",
        "tcp://192.0.2.7",
        "tcp://192.0.2.7/",
        "tcp://meter-1.example.org:4196?framer=rtu",
        "tcp://h?framer=socket&gap=50ms&timeout=1s",
        "tcp://[2001:db8::7]:502",
        "tcp://[fe80::1%eth0]:502",
        "serial:///dev/ttyUSB0",
        "serial:///dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0?baud=9600&parity=E&stop=1",
        "serial:///dev/ttyS0?baud=2400&bytes=7&dtr=1&rts=0&settle=1100ms&framer=rtu",
    ],
)
def test_links_of_the_contract_are_fine(url: str) -> None:
    assert check_link(url) is None


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "must start with tcp:// or serial://"),
        ("192.0.2.7:502", "must start with tcp:// or serial://"),
        ("tpc://h", "must start with tcp:// or serial:// (did you mean tcp?)"),
        ("tcp:/h", "must start with tcp:// or serial://"),
        ("/dev/ttyUSB0", "must start with tcp:// or serial:// (write serial:///dev/ttyUSB0)"),
        ("tcp://", "must name a host (write tcp://192.0.2.7:502)"),
        ("tcp://:502", "must name a host (write tcp://192.0.2.7:502)"),
        ("tcp://a$b", "must name a host (write tcp://192.0.2.7:502)"),
        ("tcp://h:0", "must have a port of 1 to 65535, or none"),
        ("tcp://h:", "must have a port of 1 to 65535, or none"),
        (
            "tcp://h:65536",
            "must be a link URL (the port is 1 to 65535; IPv6 as in tcp://[::1]:502)",
        ),
        ("tcp://h:http", "must be a link URL (the port is 1 to 65535; IPv6 as in tcp://[::1]:502)"),
        ("tcp://[::1", "must be a link URL (the port is 1 to 65535; IPv6 as in tcp://[::1]:502)"),
        ("tcp://u:p@h", "must not carry a user or password: Modbus knows none"),
        ("tcp://h/1", "must end after the port (the unit is a key of the device: `unit: 1`)"),
        ("tcp://a b", "must be a link URL without blanks"),
        ("tcp://h\n", "must be a link URL without blanks"),
        ("tcp://h#x", "must be a link URL (options come as ?baud=9600&parity=E)"),
        ("tcp://h?framer", "must have options as in ?baud=9600&parity=E"),
        ("tcp://h?framer=", "must have framer=socket or rtu or ascii"),
        ("tcp://h?framer=rtu&framer=rtu", "must have the option 'framer' only once"),
        ("tcp://h?framer=rtu&", "must be a link URL (options come as ?baud=9600&parity=E)"),
        ("tcp://h?gap=5", "must have gap=a duration such as 50ms"),
        (
            "serial://dev/ttyS0",
            "must be serial:// and an absolute path (three slashes: serial:///dev/ttyS0)",
        ),
        ("serial://", "must name a port (write serial:///dev/ttyUSB0)"),
        ("serial:///dev/", "must name a port (write serial:///dev/ttyUSB0)"),
        ("serial:///dev/x?framer=socket", "must have framer=rtu or ascii"),
        ("serial:///dev/x?baud=fast", "must have baud=a number such as 2400, 9600 or 115200"),
        ("serial:///dev/x?baud=0", "must have baud=a number such as 2400, 9600 or 115200"),
        ("serial:///dev/x?parity=even", "must have parity=N or E or O"),
        ("serial:///dev/x?stop=3", "must have stop=1 or 2"),
        ("serial:///dev/x?bytes=9", "must have bytes=7 or 8"),
        ("serial:///dev/x?rts=2", "must have rts=0 or 1"),
    ],
)
def test_each_mistake_in_a_link_is_named(url: str, what: str) -> None:
    assert check_link(url) == what


def test_an_option_of_the_other_kind_of_link_is_unknown() -> None:
    flaw = link_flaw("tcp://h?dtr=1")
    assert flaw is not None
    assert flaw.what == "has an option 'dtr' that tcp:// does not know: {}"
    assert "framer" in flaw.hint


@pytest.mark.parametrize("line", ["baud=9600", "baud=19200&parity=E&stop=2&bytes=8&framer=rtu"])
@pytest.mark.parametrize("start", ["tcp://h", "udp://h:502", "serial:///dev/x"])
def test_how_a_serial_line_is_set_can_be_said_behind_a_gateway_too(start: str, line: str) -> None:
    assert check_link(f"{start}?{line}") is None


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("tcp://h?unit=3", "leave it out of the URL: the unit is a key of the device: `unit: 3`"),
        (
            "serial:///dev/x?baud=9600&slave=17",
            "leave it out of the URL: the unit is a key of the device: `unit: 17`",
        ),
        ("tcp://h?interval=5s", "the interval is a key of the device: `interval: 5s`"),
        ("serial:///dev/x?baudrate=9600", "write baud="),
        ("serial:///dev/x?stopbits=2", "write stop="),
        ("tcp://h?framing=rtu", "write framer="),
        ("rtu:///dev/ttyUSB0", "write serial:///dev/ttyUSB0"),
        ("rtuovertcp://10.0.0.1:4196", "write tcp://10.0.0.1:4196?framer=rtu"),
        ("modbus://10.0.0.1", "write tcp://10.0.0.1"),
    ],
)
def test_what_others_write_is_told_as_it_is_written_here(url: str, hint: str) -> None:
    flaw = link_flaw(url)
    assert flaw is not None
    assert hint in flaw.hint


@pytest.mark.parametrize(
    "url",
    [
        "udp://h",
        "udp://h:502?framer=rtu",
        "tls://h",
        "tls://h:802?verify=0",
        "tls://h?ca=/etc/ca.pem&cert=/etc/me.pem&key=/etc/me.key",
        "serial:///dev/x?framer=ascii&bytes=7&parity=E",
        "tcp://h?framer=ascii&unit_gap=20ms&connect_delay=1s",
    ],
)
def test_every_kind_of_link_is_known(url: str) -> None:
    assert link_flaw(url) is None
