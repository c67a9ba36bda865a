"""Register maps: which quantity is where in which form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meterd.model.quantity import Kind

PROTOCOL_LIMIT = 125
# The largest hole that one read may span unless the map says otherwise.
BRIDGE = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One value. value = raw * scale, or raw * 10**(register at scale_register) * scale_factor,
    and in either case plus `offset`, which is in `unit`.

    `na` and `na_ranges` are raw words as one unsigned number; `bit` counts from the lowest, 0, and
    is the first of `bits` that are the value.
    `apart`: the scale register lies too far to be read in the same request.
    """

    quantity: str
    function: int
    address: int
    type: str
    words: int
    unit: str
    word_order: str = "big"
    byte_order: str = "big"
    scale: float = 1.0
    scale_register: int | None = None
    scale_factor: float = 1.0
    na: tuple[int, ...] = ()
    na_ranges: tuple[tuple[int, int], ...] = ()
    wrap: int | None = None
    enum: Mapping[int, str] | None = None
    tier: str = "fast"
    optional: bool = False
    alone: bool = False
    bit: int | None = None
    bits: int = 1
    offset: float = 0.0
    apart: bool = False
    kind: Kind = Kind.GAUGE
    max_rate: float | None = None

    @property
    def near_scale(self) -> int | None:
        """The scale register, if it must be in the request."""
        return None if self.apart else self.scale_register

    @property
    def first(self) -> int:
        """The first register that must be in the request."""
        scale = self.address if self.near_scale is None else self.near_scale
        return min(self.address, scale)

    @property
    def last(self) -> int:
        """The last register that must be in the request."""
        end = self.address + self.words - 1
        return max(end, end if self.near_scale is None else self.near_scale)


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """One meter model. `unreadable` are [first, last] ranges that no request may touch.

    `times` are pauses and a timeout that the device needs, by the names that links have for
    them, as durations: {"connect_delay": "1s"}.
    """

    name: str
    maker: str
    model: str
    source: str
    confidence: str
    rows: tuple[Row, ...]
    unit: int = 1
    serial: Mapping[str, str] | None = None
    tcp: int | None = None
    max_registers: int = PROTOCOL_LIMIT
    bridge: int = BRIDGE
    align: int = 1
    unreadable: tuple[tuple[int, int], ...] = ()
    aliases: tuple[str, ...] = ()
    remark: str = ""
    times: Mapping[str, str] = field(default_factory=dict)
