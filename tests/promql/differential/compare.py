"""Whether two answers of Prometheus' HTTP API say the same."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TOLERANCE = 1e-10
# Beside the greatest number of the answer this is nothing: what is left of a difference of two
# equal sums depends on the order in which they were added up.
NOTHING = 1e-14

Key = tuple[tuple[str, str], ...]


def differences(ours: Any, theirs: Any, *, ordered: bool = False) -> list[str]:
    """What differs, in words; nothing if both say the same. Both are whole JSON answers."""
    if "error" in (ours["status"], theirs["status"]):
        kinds = ours.get("errorType", "success"), theirs.get("errorType", "success")
        if kinds[0] == kinds[1]:
            return []
        texts = ours.get("error", ""), theirs.get("error", "")
        return [f"error {kinds[0]} ({texts[0]}), not {kinds[1]} ({texts[1]})"]
    return list(_of_data(ours["data"], theirs["data"], ordered))


def _of_data(ours: Any, theirs: Any, ordered: bool) -> Iterator[str]:
    if ours["resultType"] != theirs["resultType"]:
        yield f"type {ours['resultType']}, not {theirs['resultType']}"
    elif ours["resultType"] == "string":
        if ours["result"] != theirs["result"]:
            yield f"{ours['result']}, not {theirs['result']}"
    elif ours["resultType"] == "scalar":
        yield from _points("", [ours["result"]], [theirs["result"]], 0.0)
    else:
        yield from _series(ours["result"], theirs["result"], ordered)


def _key(series: Mapping[str, Any]) -> Key:
    return tuple(sorted(series["metric"].items()))


def _of_series(series: Mapping[str, Any]) -> Sequence[Any]:
    points: Sequence[Any] = series["values"] if "values" in series else [series["value"]]
    return points


def _series(ours: Sequence[Any], theirs: Sequence[Any], ordered: bool) -> Iterator[str]:
    our_keys, their_keys = [_key(one) for one in ours], [_key(one) for one in theirs]
    if ordered and our_keys != their_keys:
        yield f"order {our_keys}, not {their_keys}"
    mine, other = dict(zip(our_keys, ours, strict=True)), dict(zip(their_keys, theirs, strict=True))
    if len(mine) != len(ours) or len(other) != len(theirs):
        yield "a series comes twice"
    for key in mine.keys() ^ other.keys():
        yield f"{dict(key)} is {'too much' if key in mine else 'missing'}"
    numbers = [abs(float(p[1])) for one in theirs for p in _of_series(one)]
    scale = max((n for n in numbers if math.isfinite(n)), default=0.0)
    for key in mine.keys() & other.keys():
        yield from _points(str(dict(key)), _of_series(mine[key]), _of_series(other[key]), scale)


def _points(name: str, ours: Sequence[Any], theirs: Sequence[Any], scale: float) -> Iterator[str]:
    our_times, their_times = [t for t, _ in ours], [t for t, _ in theirs]
    if our_times != their_times:
        extra = sorted(set(our_times) - set(their_times))[:3]
        lacks = sorted(set(their_times) - set(our_times))[:3]
        yield f"{name}: times too many {extra}, missing {lacks}"
        return
    for (time, mine), (_, other) in zip(ours, theirs, strict=True):
        if not _same(mine, other, scale):
            yield f"{name} at {time}: {mine}, not {other}"
            return


def _same(ours: str, theirs: str, scale: float) -> bool:
    mine, other = float(ours), float(theirs)
    if mine == other or math.isnan(mine) or math.isnan(other):
        # The same number is the same text.
        return ours == theirs
    return math.isclose(mine, other, rel_tol=TOLERANCE, abs_tol=NOTHING * scale)
