import pytest

from meterd.sim.frames import Adu, RtuFraming, SocketFraming, crc16, with_crc


@pytest.mark.parametrize(
    ("body", "crc"),
    [
        # The first is in every Modbus tutorial; the second is the CRC catalogue's check value.
        ("0103 0000 000A", "C5CD"),
        ("313233343536373839", "374B"),
        ("0104 0000 0002", "71CB"),
    ],
)
def test_crc_agrees_with_known_frames(body: str, crc: str) -> None:
    assert with_crc(bytes.fromhex(body))[-2:] == bytes.fromhex(crc)


def test_crc_of_nothing_is_its_start() -> None:
    assert crc16(b"") == 0xFFFF


def test_mbap_is_cut_by_its_length_however_it_arrives() -> None:
    stream = bytes.fromhex("0007 0000 0006 01 04 0000 0002 0008 0000 0006 02 03 0010 0001")
    framing = SocketFraming()
    found = [adu for byte in stream for adu in framing.feed(bytes([byte]))]
    assert found == [
        Adu(7, 1, bytes.fromhex("0400000002")),
        Adu(8, 2, bytes.fromhex("0300100001")),
    ]
    assert SocketFraming().feed(stream) == found


@pytest.mark.parametrize("header", ["0001 0001 0006 01", "0001 0000 0001 01", "0001 0000 EA60 01"])
def test_what_is_no_mbap_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="no MBAP"):
        SocketFraming().feed(bytes.fromhex(header))


def test_mbap_wraps_what_it_cuts() -> None:
    adu = Adu(0x1234, 9, b"\x03\x02\x00\x07")
    assert SocketFraming().wrap(adu) == bytes.fromhex("1234 0000 0005 09 03020007")


def test_rtu_requests_are_cut_by_function_and_crc() -> None:
    framing = RtuFraming()
    read = bytes.fromhex("01030000000AC5CD")
    write = with_crc(bytes.fromhex("01 10 0000 0001 02 0005"))
    unknown = with_crc(bytes.fromhex("01 2B 0E 01 00"))
    found = framing.feed(read + write + unknown)
    assert [adu.pdu[0] for adu in found] == [3, 16, 0x2B]
    assert framing.wrap(found[0]) == read


def test_rtu_drops_a_bad_crc_and_goes_on_after_silence() -> None:
    framing = RtuFraming()
    assert framing.feed(bytes.fromhex("01030000000AC5CE")) == []
    assert framing.feed(b"\x01\x03") == []
    framing.forget()
    assert len(framing.feed(bytes.fromhex("01030000000AC5CD"))) == 1
