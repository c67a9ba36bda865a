"""Signed whole numbers as deflated byte planes.

    numbers  5  -3  300      zigzagged  10  5  600      as 2 bytes  0A 00  05 00  58 02
    planes   all lowest bytes, then all highest:  0A 05 58  00 00 02

    | width, and 0x80 where deflated | planes |      width 0: all numbers are 0, nothing follows

Small numbers leave whole planes of zeros, which cost next to nothing.
"""

import sys
import zlib
from array import array
from collections.abc import Sequence

from meterd.store.blocks.varint import Damage
from meterd.store.blocks.word_lanes import zagzig, zigzag

MOST = 1 << 24  # numbers; zeros take no room, and a damaged count must not eat the memory
TYPES = {1: "b", 2: "h", 4: "i", 8: "q"}
DEFLATED = 0x80
ZEROS = b"\0"  # any number of zeros
_RAW_DEFLATE = -15
# A small window and few hash chains: setting zlib up costs more than a short series otherwise.
_LEVEL, _WINDOW, _MEMORY = 6, -12, 5
_LONG = 256  # numbers: codes of their own take some 60 bytes a plane
_REPETITIVE = 0.4  # of the bytes before
_SWAPPED = sys.byteorder == "big"


def deflate(body: bytes) -> bytes:
    """Tuned for planes: noise on few values, so that hardly anything repeats."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_FILTERED)
    return stream.compress(body) + stream.flush()


def _deflate_planes(planes: bytes, width: int) -> bytes:
    """Each plane with Huffman codes of its own: the lowest is noise, the others mostly zeros.

    Long planes are noise with runs, as a rule, which Z_RLE packs best and in half the time; where
    they come out small, there is more to be found in them.
    """
    count = len(planes) // width
    if count < _LONG:
        return deflate(planes)
    small = _by_plane(planes, count, zlib.Z_RLE)
    if len(small) < _REPETITIVE * len(planes):
        return min(small, _by_plane(planes, count, zlib.Z_FILTERED), key=len)
    return small


def _by_plane(planes: bytes, count: int, strategy: int) -> bytes:
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, strategy)
    packed = []
    for start in range(0, len(planes), count):
        packed.append(stream.compress(planes[start : start + count]))
        if start + count < len(planes):
            # A new block begins, and with it new codes; nothing is aligned.
            packed.append(stream.flush(zlib.Z_BLOCK))
    packed.append(stream.flush())
    return b"".join(packed)


def inflate(body: bytes, size: int) -> bytes:
    """So many bytes, no more and no fewer. Raises Damage or zlib.error."""
    stream = zlib.decompressobj(_RAW_DEFLATE)
    plain = stream.decompress(body, size + 1)
    if len(plain) != size or not stream.eof or stream.unused_data:
        raise Damage(f"{len(plain)} bytes were packed where {size} are due")
    return plain


def fitted(values: Sequence[int]) -> "array[int]":
    """As the narrowest integers that hold them all. Raises OverflowError beyond 64 bits."""
    for kind in "bhi":
        try:
            return array(kind, values)
        except OverflowError:
            continue
    return array("q", values)


def pack(values: Sequence[int]) -> bytes:
    """Raises OverflowError where a number needs more than 64 bits."""
    return compressed(lay(values))


def lay(values: Sequence[int]) -> bytes:
    """Like `pack`, but nothing is deflated."""
    if not any(values):
        return ZEROS
    numbers = fitted(values)
    if _SWAPPED:
        numbers.byteswap()
    return spread(zigzag(numbers.tobytes(), numbers.itemsize), numbers.itemsize)


def spread(words: bytes, width: int) -> bytes:
    """The width, and words of it as planes."""
    return bytes((width,)) + b"".join([words[place::width] for place in range(width)])


def narrowed(words: bytes) -> bytes:
    """Words of 64 bits as planes, without those that have no bit set."""
    planes = [words[place::8] for place in range(8)]
    zeros, width = bytes(len(planes[0])), 8
    while width and all([plane == zeros for plane in planes[width // 2 : width]]):  # noqa: C419
        width //= 2
    return bytes((width,)) + b"".join(planes[:width])


def compressed(laid: bytes) -> bytes:
    """Deflated where that is smaller."""
    if len(laid) == 1:
        return laid
    small = _deflate_planes(laid[1:], laid[0])
    return bytes((laid[0] | DEFLATED,)) + small if len(small) < len(laid) - 1 else laid


def doubles(values: "array[float]") -> bytes:
    """The bytes of the doubles as planes, not deflated."""
    return spread(words_of(values), values.itemsize)


def words_of(values: "array[float]") -> bytes:
    """Doubles as words, lowest byte first."""
    if _SWAPPED:
        values = values[:]
        values.byteswap()
    return values.tobytes()


def undoubled(body: bytes, count: int) -> "array[float]":
    """The opposite of `doubles`, deflated or not. Raises Damage or zlib.error."""
    width, planes = gathered(body, count)
    values = array("d")
    if width != values.itemsize:
        raise Damage(f"doubles of {width} bytes")
    values.frombytes(words(planes, width))
    if _SWAPPED:
        values.byteswap()
    return values


def unpack(body: bytes, count: int) -> "array[int]":
    """The numbers; of the width in which they were packed. Raises Damage or zlib.error."""
    width, planes = gathered(body, count)
    if not width:
        return array("b", bytes(count))
    numbers = array(TYPES[width])
    numbers.frombytes(zagzig(words(planes, width), width))
    if _SWAPPED:
        numbers.byteswap()
    return numbers


def gathered(body: bytes, count: int) -> tuple[int, bytes]:
    """The width, and the planes of so many words."""
    if not body or not 0 <= count <= MOST:
        raise Damage(f"{len(body)} bytes of planes for {count} numbers")
    width = body[0] & ~DEFLATED
    if width == 0 and len(body) == 1:
        return 0, b""
    if width not in TYPES:
        raise Damage(f"no planes are {width} wide")
    planes = body[1:]
    if body[0] & DEFLATED:
        planes = inflate(planes, width * count)
    if len(planes) != width * count:
        raise Damage(f"{len(planes)} bytes of planes where {width * count} are due")
    return width, planes


def words(planes: bytes, width: int) -> bytes:
    """The planes put together again."""
    joined, count = bytearray(len(planes)), len(planes) // width
    for place in range(width):
        joined[place::width] = planes[place * count : (place + 1) * count]
    return bytes(joined)
