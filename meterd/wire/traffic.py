"""History of the frames on a link without transaction ids: finds copied and foreign replies.

Without an id a frame is taken for the reply to whatever request is open when it arrives:

request A | reply A | request B | copy of reply A | reply B        a repeater: B gets A's values
request A | foreign reply | reply A | request B | reply B          a second master: all are shifted
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary, proxy

from meterd.model.event import EventKind, Notice
from meterd.wire.link import Link
from meterd.wire.rtt_estimator import RttEstimator
from meterd.wire.streamlink import StreamLink

Read = tuple[int, int, int]
"""Function, address and count."""
ReplyShape = tuple[int, int, int]
"""Unit, function and count: what a reply reveals of its request. Equal shapes can be confused."""

# Size of the history of frames: more than a fast gateway answers within `_COPY_LIFE_S`.
_HISTORY_FRAMES_MAX = 256
# A frame equal to one heard within this time, or within the link's timeout if that is longer, may
# be its copy; after a lost reply the line is not drained for longer either.
_COPY_LIFE_S = 0.5
# The same reply to the same request: within this time a copy, later an unchanged value.
_SAME_READ_COPY_LIFE_S = 0.25
# Copies with a longer delay are recognised, but not waited for before each request.
_COPY_DELAY_MAX_S = 0.15
_COPY_DELAY_MARGIN = 1.25
_COPY_DELAY_MIN_S = 0.005
# Signs within one burst may be a disturbance; a sign after it is evidence.
_BURST_S = 1.5
_COPIES_BEFORE_NOTICE = 3
# Foreign traffic, and copies, have ended after this time without a further sign.
FOREIGN_GONE_S = 300.0
_SINGLE_SIGN_HOLD_S = 10.0
COPIES_GONE_S = 600.0
# The first replies on a link have to be confirmed: another master shows up within these seconds, or
# within so many replies.
_FIRST_REPLIES_S = 5.0
_FIRST_REPLIES = 32
# Replies received in one piece with their copy, from which a link counts as doubling all frames.
_PAIRS_BEFORE_DOUBLING = 3
_FOREIGN_FRAMES_SHOWN_MAX = 8
# Function codes above this are exceptions (bit 7 set).
_FUNCTION_MAX = 0x7F
_NO_SIZES: frozenset[int] = frozenset()
_NO_READ: Read = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class HeardFrame:
    """A complete frame on the line.

    `count` is the number of registers (for functions 1 and 2: bytes of bits) that it carries, or
    requests.
    """

    raw: bytes
    unit: int
    function: int
    count: int
    is_request: bool = False

    def __str__(self) -> str:
        what = "a request to" if self.is_request else "an answer of"
        return f"{what} unit {self.unit}, function {self.function}, count {self.count}"


class UnitTraffic:
    """State of one unit's replies, shared by all clients of the unit."""

    __slots__ = (
        "longest_read",
        "outstanding",
        "outstanding_before",
        "read_sizes",
        "repeated",
        "resync_rtt",
        "rtt_high",
        "suspect_count",
    )

    def __init__(self) -> None:
        self.outstanding = self.read_sizes = _NO_SIZES
        """Data sizes (bytes): of late replies that may still come, of reads whose values count."""
        self.repeated = _NO_SIZES
        """The data size of a read that was sent twice, whose second reply may still come."""
        self.outstanding_before = _NO_SIZES
        """Sizes of late replies that were outstanding when the read in hand began."""
        self.longest_read = _NO_READ
        """The longest read that was answered; parts of it serve as resynchronisation reads."""
        self.resync_rtt = RttEstimator()
        """RTT of resynchronisation reads, whichever registers they read."""
        self.rtt_high = 0.0
        """Round-trip time of the unit's slower replies, in seconds: a decaying maximum."""
        self.suspect_count = 0
        """Times that earlier replies turned out to be possibly another master's."""

    def answered(self, rtt: float) -> None:
        self.rtt_high = max(rtt, self.rtt_high * 0.9 + rtt * 0.1)


class Traffic:
    """History and state of one link. The lock `turn` is held for one read with its repetitions."""

    def __init__(self, link: Link, split: Callable[[bytes], Iterable[HeardFrame]]) -> None:
        """`split` finds the complete frames in bytes that came outside of an exchange."""
        self.turn = asyncio.Lock()
        self.notices: list[Notice] = []
        self.request = b""
        """The request sent last: some adapters echo it."""
        self.pairs = 0
        """Count of replies that came together with their copy."""
        # Weak: the link holds this object by its callback `overheard`, and would never be freed.
        self._link = proxy(link)
        self.answered_at = 0.0
        """Loop time at which a reply was last accepted."""
        self._rested_at = -math.inf
        self._last_shape: ReplyShape | None = None
        self._split = split
        self._units: dict[int, UnitTraffic] = {}
        self._history: dict[bytes, tuple[float, Read | None]] = {}
        self._first_replies: tuple[float, int] | None = (0.0, 0)
        self._copies = _Evidence()
        self._copy_delay = 0.0
        self._foreign = _Evidence()
        self._foreign_frames: dict[str, None] = {}
        # Loop time of another master's last request: by unit and function, and by shape.
        self._foreign_functions: dict[tuple[int, int], float] = {}
        self._rival_shapes: dict[ReplyShape, float] = {}
        self._stream_link = isinstance(link, StreamLink)
        if isinstance(link, StreamLink):
            link.overheard = self._overheard

    @property
    def sends_pairs(self) -> bool:
        """Whether this link sends every reply twice in one piece."""
        return self.pairs > _PAIRS_BEFORE_DOUBLING

    @property
    def repeats_replies(self) -> bool:
        """Whether replies on this link are known to be repeated."""
        return self._copies.reported

    def unit_traffic(self, unit: int) -> UnitTraffic:
        """The state of a unit, one object for all its clients."""
        return self._units.setdefault(unit, UnitTraffic())

    # -- acceptance of a reply ------------------------------------------------------------------

    def accepts(self, frame: bytes, read: Read, unit: int, now: float) -> bool:
        """Whether this frame is accepted as the reply to `read` without confirmation."""
        if self._first_replies is not None and self._is_first_reply(now):
            return False
        if self._foreign_functions and self.has_foreign_reads(unit, read[0], now):
            return False
        return frame not in self._history or not (
            self.may_be_copy(frame, read, now) or self.is_same_reply(frame, read, now)
        )

    def may_be_copy(self, frame: bytes, read: Read, now: float) -> bool:
        """Whether an equal frame was heard lately, and not as the reply to this read."""
        entry = self._history.get(frame)
        if entry is None or entry[1] == read:
            return False
        return bool(now - entry[0] < max(_COPY_LIFE_S, self._link.timeout))

    def is_same_reply(self, frame: bytes, read: Read, now: float) -> bool:
        """Whether an equal frame was just the reply to this read: a copy, or an unchanged value."""
        entry = self._history.get(frame)
        return entry is not None and entry[1] == read and now - entry[0] < _SAME_READ_COPY_LIFE_S

    async def ensure_pause(self, shape: ReplyShape, pause: float, after: float) -> None:
        """Before a request: listen for `pause` s if the line had no such pause for `after` s.

        A reply of another shape than the one before proves as well that no reply is late.
        """
        now = asyncio.get_running_loop().time()
        last_shape, self._last_shape = self._last_shape, shape
        if last_shape != shape:
            self._rested_at = now
        elif now - self.answered_at < pause and now - self._rested_at > after:
            await asyncio.sleep(pause)
            self._rested_at = now
        elif now - self.answered_at >= pause:
            self._rested_at = now

    def keep(self, frame: bytes, read: Read | None, now: float) -> None:
        """Add a frame to the history: the reply to `read`, or (None) to an unknown request."""
        history = self._history
        history.pop(frame, None)
        history[frame] = now, read
        if len(history) > _HISTORY_FRAMES_MAX:
            del history[next(iter(history))]

    def has_foreign_reads(self, unit: int, function: int, now: float) -> bool:
        """Whether another master lately used this function of the unit."""
        return now - self._foreign_functions.get((unit, function), -math.inf) < self._hold

    def is_undisturbed(self, unit: int, function: int, now: float) -> bool:
        """Whether the link's first replies are past and no other master uses this function."""
        return self._first_replies is None and not self.has_foreign_reads(unit, function, now)

    def has_rivals(self, shape: ReplyShape, now: float) -> bool:
        """Whether another master lately sent requests with replies of the same shape."""
        return now - self._rival_shapes.get(shape, -math.inf) < self._hold

    @property
    def _hold(self) -> float:
        """Seconds for which a sign of another master counts."""
        return FOREIGN_GONE_S if self._foreign.reported else _SINGLE_SIGN_HOLD_S

    def _is_first_reply(self, now: float) -> bool:
        assert self._first_replies is not None  # noqa: S101 (its caller looked)
        began, answers = self._first_replies
        self._first_replies = (began or now, answers + 1)
        if began and (now - began > _FIRST_REPLIES_S or answers >= _FIRST_REPLIES):
            self._first_replies = None
            return False
        return True

    # -- frames that are no reply ---------------------------------------------------------------

    def copied(self, frame: bytes, now: float) -> None:
        """A copy of this frame came."""
        entry = self._history.get(frame)
        delay = now - entry[0] if entry is not None else 0.0
        self._link.count("copies")
        if self._foreign.ever or self._foreign_functions:
            return  # another master that repeats its request causes equal frames, too
        self._copies.note(now, COPIES_GONE_S)
        if _COPY_DELAY_MIN_S / 2 < delay <= _COPY_DELAY_MAX_S and delay > self._copy_delay:
            self._copy_delay = delay
            if self._stream_link:
                self._link.settle = delay * _COPY_DELAY_MARGIN + _COPY_DELAY_MIN_S
        if self._copies.persists(now, _COPIES_BEFORE_NOTICE):
            self.notices.append(self._doubled_notice())

    def unmatched(self, frames: Sequence[HeardFrame], now: float, *, late: bool = False) -> None:
        """Complete frames that were no reply to the request. `late`: some may be late replies."""
        for frame in frames:
            if frame.is_request:
                if frame.raw == self.request:
                    self._link.count("echo")
                else:
                    self._note_foreign(frame, now)
                continue
            entry = self._history.get(frame.raw)
            if entry is not None and self._is_copy(frame, entry, now):
                self.copied(frame.raw, now)
            elif not late and not self._is_late_reply(frame):
                self._note_foreign(frame, now)
            self.keep(frame.raw, entry[1] if entry else None, now)

    def _is_copy(self, frame: HeardFrame, entry: tuple[float, Read | None], now: float) -> bool:
        """Whether it is a copy of a reply, and not the reply to another master's same request."""
        recent = now - entry[0] < max(_COPY_LIFE_S, self._link.timeout)
        return (
            recent
            and entry[1] is not None
            and not self.has_foreign_reads(frame.unit, frame.function & _FUNCTION_MAX, now)
        )

    def crossed(self, frames: Sequence[HeardFrame], now: float) -> None:
        """Several different replies came to one request: all but one are another master's."""
        for frame in frames:
            self._note_foreign(frame, now)

    def _overheard(self, data: bytes, when: float, late: bool) -> None:
        self.unmatched(list(self._split(data)), when, late=late)

    def _is_late_reply(self, frame: HeardFrame) -> bool:
        unit_traffic = self._units.get(frame.unit)
        if unit_traffic is None or not unit_traffic.outstanding_before:
            return False
        size = frame.count if frame.function <= 2 else 2 * frame.count
        return frame.function > _FUNCTION_MAX or size in unit_traffic.outstanding_before

    def _note_foreign(self, frame: HeardFrame, now: float) -> None:
        self._link.count("foreign")
        self._foreign.note(now, FOREIGN_GONE_S)
        if len(self._foreign_frames) < _FOREIGN_FRAMES_SHOWN_MAX:
            self._foreign_frames[str(frame)] = None
        function_key = frame.unit, frame.function & _FUNCTION_MAX
        if function_key[0] in self._units:
            if not self.has_foreign_reads(*function_key, now):
                self._units[frame.unit].suspect_count += 1
            self._foreign_functions[function_key] = now
            self._rival_shapes[(*function_key, frame.count)] = now
            if len(self._rival_shapes) > _HISTORY_FRAMES_MAX:
                self._rival_shapes.clear()
        if self._foreign.persists(now, 2):
            self.notices.append(self._foreign_notice(frame))

    # -- notices --------------------------------------------------------------------------------

    @property
    def foreign(self) -> float | None:
        """1 while another master uses this link, 0 when that has ended; None if there was none."""
        return None if not self._foreign.ever else float(self._foreign.reported)

    def expire(self, now: float) -> None:
        """End foreign traffic and copies that had no further sign, with a notice of each."""
        if self._foreign.ends(now, FOREIGN_GONE_S):
            self._foreign_functions.clear()
            self._rival_shapes.clear()
            self._foreign_frames.clear()
            text = f"nobody else has asked on {self._link.url} for {FOREIGN_GONE_S / 60:g} min"
            data = {"link": self._link.url}
            self.notices.append(Notice(EventKind.FOREIGN_TRAFFIC_GONE, text, data))
        if self._copies.ends(now, COPIES_GONE_S):
            self._copy_delay = 0.0
            if self._stream_link:
                self._link.settle = 0.0
            text = f"answers on {self._link.url} come once again"
            self.notices.append(Notice(EventKind.ANSWERS_SINGLE, text, {"link": self._link.url}))

    def foreign_frames(self) -> str:
        """The foreign frames that were heard, as a text; empty if there were none."""
        return "; ".join(self._foreign_frames)

    def _foreign_notice(self, frame: HeardFrame) -> Notice:
        text = (
            f"not alone: somebody else asks on {self._link.url} (heard: {self.foreign_frames()}). "
            "Answers are asked for again until they can only be meterd's own, which takes longer; "
            "let only one program ask, or let the others ask meterd's proxy"
        )
        data = {
            "link": self._link.url,
            "unit": frame.unit,
            "function": frame.function & _FUNCTION_MAX,
            "count": frame.count,
        }
        return Notice(EventKind.FOREIGN_TRAFFIC, text, data)

    def _doubled_notice(self) -> Notice:
        text = (
            f"answered twice: answers on {self._link.url} come again "
            f"{self._copy_delay * 1000:.0f} ms later; copies are dropped. "
            "Is there a repeater, or a gateway set to send twice?"
        )
        data = {"link": self._link.url, "seconds": round(self._copy_delay, 4)}
        return Notice(EventKind.ANSWERS_DOUBLED, text, data)


class _Evidence:
    """Signs of one condition: times of the first and last (loop time), count, and its state.

    `reported`: the condition holds and was reported; `ever`: it held at some time.
    """

    __slots__ = ("_count", "_first", "_last", "ever", "reported")

    def __init__(self) -> None:
        self._first = self._last = 0.0
        self._count = 0
        self.reported = self.ever = False

    def note(self, now: float, gone: float) -> None:
        """Count a sign; after a pause of `gone` s the count restarts."""
        if not self._count or now - self._last > gone:
            self._first, self._count = now, 0
        self._last = now
        self._count += 1

    def persists(self, now: float, count: int) -> bool:
        """Whether the condition holds from now on: `count` signs, not all within one burst."""
        if self.reported or self._count < count or now - self._first < _BURST_S:
            return False
        self.reported = self.ever = True
        return True

    def ends(self, now: float, gone: float) -> bool:
        """Whether the condition ends now: it was reported, and `gone` s passed without a sign."""
        if not self.reported or now - self._last < gone:
            return False
        self.reported, self._count = False, 0
        return True


_TRAFFIC_BY_LINK: WeakKeyDictionary[Link, Traffic] = WeakKeyDictionary()


def traffic_on(link: Link, split: Callable[[bytes], Iterable[HeardFrame]]) -> Traffic:
    """The history of this link, one object for all its clients."""
    traffic = _TRAFFIC_BY_LINK.get(link)
    if traffic is None:
        traffic = _TRAFFIC_BY_LINK[link] = Traffic(link, split)
    return traffic
