"""What was heard on a link whose frames carry no ids, and what that says of the next answer.

Such a frame is taken for the answer to whatever is asked when it arrives:

ask A | answer A | ask B | copy of A's answer | answer B       a repeater: B would get A's values
ask A | somebody else's answer | answer A | ask B | answer B   a second master: all are shifted
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
Rival = tuple[int, int, int]
"""Unit, function and count: what an answer shows of its request."""

# Frames that are remembered: more than a fast gateway answers within `_COPY_LIFE_S`.
_MOST_FRAMES = 256
# The least time within which a frame that was heard before may be its copy, in seconds; where a
# link's timeout is longer, that: later ones are not waited for after a lost answer either.
_COPY_LIFE_S = 0.5
# The same request again, with the same answer: within this a copy, later a value that stands.
_STANDS_S = 0.25
# Copies that come later than this are recognised, but not waited for before each request.
_MOST_QUIET_S = 0.15
_QUIET_MARGIN = 1.25
_QUIET_LEAST_S = 0.005
# One burst may be a disturbance; what is heard again after this is somebody.
_BURST_S = 1.5
_COPIES_TOLD = 3
# Without a further sign for so long, it has ended.
FOREIGN_GONE_S = 300.0
_FOREIGN_ONCE_S = 10.0
COPIES_GONE_S = 600.0
# A link's first answers have to stand alone: who else is on it shows itself in these seconds, or
# within so many answers.
_YOUNG_S = 5.0
_YOUNG_ANSWERS = 32
# Identical pairs in one piece that prove a link to double its answers.
_PAIRS = 3
_MOST_KINDS = 8
# Functions above this are exceptions.
_NO = 0x7F
_NOBODY: frozenset[int] = frozenset()
_NOTHING: Read = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class HeardFrame:
    """A whole frame on the line.

    `count` is how many registers (for functions 1 and 2: bytes of bits) it carries or asks for.
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
    """What is known of one unit's answers, common to all clients that ask it."""

    __slots__ = ("doubled", "fences", "late", "owed", "proven", "shaken", "sizes", "usual")

    def __init__(self) -> None:
        self.owed = self.sizes = _NOBODY
        """Sizes of late answers that may still come, and of those that are kept."""
        self.doubled = _NOBODY
        """The size that may come once more, as it was asked for twice."""
        self.late = _NOBODY
        """Of those owed, the ones that were when the read in hand began."""
        self.proven = _NOTHING
        """The longest read that was answered."""
        self.fences = RttEstimator()
        """One for all fences, which differ: that one came late is known when the next is asked."""
        self.usual = 0.0
        """Seconds that its slower answers take."""
        self.shaken = 0
        """How often it turned out that answers before may have been somebody else's."""

    def answered(self, took: float) -> None:
        self.usual = max(took, self.usual * 0.9 + took * 0.1)


class Traffic:
    """Of one link. `turn` is held for one read with all that belongs to it."""

    def __init__(self, link: Link, split: Callable[[bytes], Iterable[HeardFrame]]) -> None:
        """`split` finds the whole frames in bytes that nobody waited for."""
        self.turn = asyncio.Lock()
        self.notices: list[Notice] = []
        self.request = b""
        """What was sent last: some adapters echo it."""
        self.pairs = 0
        """Answers that came together with their copy."""
        # Weak: the link itself tells of what it hears, and would never be given up.
        self._link = proxy(link)
        self.answered_at = 0.0
        """When an answer was last taken (loop time)."""
        self._rested_at = -math.inf
        self._shape: Rival | None = None
        self._split = split
        self._stations: dict[int, UnitTraffic] = {}
        self._heard: dict[bytes, tuple[float, Read | None]] = {}
        self._young: tuple[float, int] | None = (0.0, 0)
        self._copies = _Evidence()
        self._delay = 0.0
        self._foreign = _Evidence()
        self._kinds: dict[str, None] = {}
        # When somebody else was heard asking a unit with a function, and for so many registers.
        self._suspects: dict[tuple[int, int], float] = {}
        self._rivals: dict[Rival, float] = {}
        self._stream_link = isinstance(link, StreamLink)
        if isinstance(link, StreamLink):
            link.overheard = self._overheard

    @property
    def always_pairs(self) -> bool:
        """Whether this link is known to send each answer twice at once."""
        return self.pairs > _PAIRS

    @property
    def doubles(self) -> bool:
        """Whether answers on this link are known to come more than once."""
        return self._copies.told

    def station(self, unit: int) -> UnitTraffic:
        """One and the same for all who ask this unit."""
        return self._stations.setdefault(unit, UnitTraffic())

    # -- is it the answer? --------------------------------------------------------------------

    def trusts(self, frame: bytes, read: Read, unit: int, now: float) -> bool:
        """Whether nothing speaks against this frame being the answer to `read`."""
        if self._young is not None and self._is_young(now):
            return False
        if self._suspects and self.suspects(unit, read[0], now):
            return False
        return frame not in self._heard or not (
            self.repeats(frame, read, now) or self.stands(frame, read, now)
        )

    def repeats(self, frame: bytes, read: Read, now: float) -> bool:
        """Whether a frame like this was just heard, and not as the answer to this read."""
        heard = self._heard.get(frame)
        if heard is None or heard[1] == read:
            return False
        return bool(now - heard[0] < max(_COPY_LIFE_S, self._link.timeout))

    def stands(self, frame: bytes, read: Read, now: float) -> bool:
        """Whether it was just heard as the answer to this read: its copy, or the same again."""
        heard = self._heard.get(frame)
        return heard is not None and heard[1] == read and now - heard[0] < _STANDS_S

    async def rest(self, rival: Rival, pause: float, after: float) -> None:
        """Before a request: the line has been silent for `pause` s, at least every `after` s.

        Answers of another shape than those before prove as well that none of them is late.
        """
        now = asyncio.get_running_loop().time()
        before, self._shape = self._shape, rival
        if before != rival:
            self._rested_at = now
        elif now - self.answered_at < pause and now - self._rested_at > after:
            await asyncio.sleep(pause)
            self._rested_at = now
        elif now - self.answered_at >= pause:
            self._rested_at = now

    def keep(self, frame: bytes, read: Read | None, now: float) -> None:
        """A frame was heard, as the answer to `read` or to nothing known."""
        known = self._heard
        known.pop(frame, None)
        known[frame] = now, read
        if len(known) > _MOST_FRAMES:
            del known[next(iter(known))]

    def suspects(self, unit: int, function: int, now: float) -> bool:
        """Whether somebody else asks this unit, too."""
        return now - self._suspects.get((unit, function), -math.inf) < self._hold

    def is_calm(self, unit: int, function: int, now: float) -> bool:
        """Whether the link is known for a while, and nobody else asks this unit."""
        return self._young is None and not self.suspects(unit, function, now)

    def rivals(self, rival: Rival, now: float) -> bool:
        """Whether somebody else asks for answers of the same shape."""
        return now - self._rivals.get(rival, -math.inf) < self._hold

    @property
    def _hold(self) -> float:
        """Seconds for which a sign of somebody else makes careful."""
        return FOREIGN_GONE_S if self._foreign.told else _FOREIGN_ONCE_S

    def _is_young(self, now: float) -> bool:
        assert self._young is not None  # noqa: S101 (its caller looked)
        began, answers = self._young
        self._young = (began or now, answers + 1)
        if began and (now - began > _YOUNG_S or answers >= _YOUNG_ANSWERS):
            self._young = None
            return False
        return True

    # -- what nobody waited for -----------------------------------------------------------------

    def copied(self, frame: bytes, now: float) -> None:
        """This frame came once more."""
        heard = self._heard.get(frame)
        delay = now - heard[0] if heard is not None else 0.0
        self._link.count("copies")
        if self._foreign.ever or self._suspects:
            return  # somebody who asks the same again and again looks like that, too
        self._copies.note(now, COPIES_GONE_S)
        if _QUIET_LEAST_S / 2 < delay <= _MOST_QUIET_S and delay > self._delay:
            self._delay = delay
            if self._stream_link:
                self._link.settle = delay * _QUIET_MARGIN + _QUIET_LEAST_S
        if self._copies.persists(now, _COPIES_TOLD):
            self.notices.append(self._doubling())

    def others(self, frames: Sequence[HeardFrame], now: float, *, late: bool = False) -> None:
        """Whole frames that were no answer to what was asked. `late`: they may have been owed."""
        for frame in frames:
            if frame.is_request:
                if frame.raw == self.request:
                    self._link.count("echo")
                else:
                    self._somebody(frame, now)
                continue
            heard = self._heard.get(frame.raw)
            if heard is not None and self._is_copy(frame, heard, now):
                self.copied(frame.raw, now)
            elif not late and not self._is_owed(frame):
                self._somebody(frame, now)
            self.keep(frame.raw, heard[1] if heard else None, now)

    def _is_copy(self, frame: HeardFrame, heard: tuple[float, Read | None], now: float) -> bool:
        """Whether an answer came once more, and not somebody else asked for the same again."""
        recent = now - heard[0] < max(_COPY_LIFE_S, self._link.timeout)
        return (
            recent
            and heard[1] is not None
            and not self.suspects(frame.unit, frame.function & _NO, now)
        )

    def crossed(self, frames: Sequence[HeardFrame], now: float) -> None:
        """Several answers to one request: all but one are somebody else's."""
        for frame in frames:
            self._somebody(frame, now)

    def _overheard(self, data: bytes, when: float, late: bool) -> None:
        self.others(list(self._split(data)), when, late=late)

    def _is_owed(self, frame: HeardFrame) -> bool:
        station = self._stations.get(frame.unit)
        if station is None or not station.late:
            return False
        size = frame.count if frame.function <= 2 else 2 * frame.count
        return frame.function > _NO or size in station.late

    def _somebody(self, frame: HeardFrame, now: float) -> None:
        self._link.count("foreign")
        self._foreign.note(now, FOREIGN_GONE_S)
        if len(self._kinds) < _MOST_KINDS:
            self._kinds[str(frame)] = None
        whose = frame.unit, frame.function & _NO
        if whose[0] in self._stations:
            if not self.suspects(*whose, now):
                self._stations[frame.unit].shaken += 1
            self._suspects[whose] = now
            self._rivals[(*whose, frame.count)] = now
            if len(self._rivals) > _MOST_FRAMES:
                self._rivals.clear()
        if self._foreign.persists(now, 2):
            self.notices.append(self._foreign_traffic(frame))

    # -- what is told of it -----------------------------------------------------------------

    @property
    def foreign(self) -> float | None:
        """1 while somebody else asks on this link, 0 when that has ended; None if it never was."""
        return None if not self._foreign.ever else float(self._foreign.told)

    def look(self, now: float) -> None:
        """Notice what has ended."""
        if self._foreign.ends(now, FOREIGN_GONE_S):
            self._suspects.clear()
            self._rivals.clear()
            self._kinds.clear()
            text = f"nobody else has asked on {self._link.url} for {FOREIGN_GONE_S / 60:g} min"
            data = {"link": self._link.url}
            self.notices.append(Notice(EventKind.FOREIGN_TRAFFIC_GONE, text, data))
        if self._copies.ends(now, COPIES_GONE_S):
            self._delay = 0.0
            if self._stream_link:
                self._link.settle = 0.0
            text = f"answers on {self._link.url} come once again"
            self.notices.append(Notice(EventKind.ANSWERS_SINGLE, text, {"link": self._link.url}))

    def why(self) -> str:
        """What else was heard, in words; empty where nothing was."""
        return "; ".join(self._kinds)

    def _foreign_traffic(self, frame: HeardFrame) -> Notice:
        text = (
            f"not alone: somebody else asks on {self._link.url} (heard: {self.why()}). Answers are "
            "asked for again until they can only be meterd's own, which takes longer; let only one "
            "program ask, or let the others ask meterd's proxy"
        )
        data = {
            "link": self._link.url,
            "unit": frame.unit,
            "function": frame.function & _NO,
            "count": frame.count,
        }
        return Notice(EventKind.FOREIGN_TRAFFIC, text, data)

    def _doubling(self) -> Notice:
        text = (
            f"answered twice: answers on {self._link.url} come again {self._delay * 1000:.0f} ms "
            "later; copies are dropped. Is there a repeater, or a gateway set to send twice?"
        )
        data = {"link": self._link.url, "seconds": round(self._delay, 4)}
        return Notice(EventKind.ANSWERS_DOUBLED, text, data)


class _Evidence:
    """Signs of one thing: the first of a row, the last, how many, and whether it was told."""

    __slots__ = ("_count", "_first", "_last", "ever", "told")

    def __init__(self) -> None:
        self._first = self._last = 0.0
        self._count = 0
        self.told = self.ever = False

    def note(self, now: float, gone: float) -> None:
        """One sign more; after a pause of `gone` s it begins anew."""
        if not self._count or now - self._last > gone:
            self._first, self._count = now, 0
        self._last = now
        self._count += 1

    def persists(self, now: float, count: int) -> bool:
        """True once: there are so many signs, and not in one burst."""
        if self.told or self._count < count or now - self._first < _BURST_S:
            return False
        self.told = self.ever = True
        return True

    def ends(self, now: float, gone: float) -> bool:
        """True once: it was told, and there has been no sign for `gone` s."""
        if not self.told or now - self._last < gone:
            return False
        self.told, self._count = False, 0
        return True


_OF: WeakKeyDictionary[Link, Traffic] = WeakKeyDictionary()


def traffic_on(link: Link, split: Callable[[bytes], Iterable[HeardFrame]]) -> Traffic:
    """The traffic on this link: one and the same for all clients that share it."""
    known = _OF.get(link)
    if known is None:
        known = _OF[link] = Traffic(link, split)
    return known
