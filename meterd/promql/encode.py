"""Encodes results as JSON in the format of Prometheus' HTTP API."""

import math

import numpy as np
import orjson

from meterd.promql.result import Result, ResultSeries
from meterd.promql.source import Times, Values

_POINT_KEYS: dict[str, str] = {"vector": "value", "matrix": "values"}


def number(value: float, *, plain: bool = False) -> str:
    """The shortest decimal that parses to the same float64, formatted as Go does.

    With an exponent below 1e-6 and from 1e21; `plain` never has one (Go's format 'f').
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if 1e-4 <= abs(value) < 1e16:
        return repr(float(value)).removesuffix(".0")
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    if plain or 1e-6 <= abs(value) < 1e21:
        return np.format_float_positional(value, unique=True, trim="-")
    return repr(float(value)).replace(".0e", "e")


def seconds(ms: int) -> int | float:
    """Seconds from ms: an int where they are whole, else a float with up to three decimals."""
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def encode(result: Result) -> dict[str, object]:
    """{"resultType": …, "result": …} for JSON: times in seconds, values as strings."""
    data = result.data
    if isinstance(data, str):
        return {"resultType": result.type, "result": [seconds(result.time), data]}
    if result.type == "scalar":
        # Prometheus never writes a scalar with an exponent, though it does so in vectors.
        text = number(float(data[0].values[0]), plain=True)
        return {"resultType": "scalar", "result": [seconds(result.time), text]}
    rows: list[dict[str, object]] = []
    for series in data:
        points = _points(series)
        value = points if result.type == "matrix" else points[0]
        rows.append({"metric": dict(series.labels), _POINT_KEYS[result.type]: value})
    return {"resultType": result.type, "result": rows}


def _points(series: ResultSeries) -> list[list[object]]:
    pairs = zip(series.times.tolist(), series.values.tolist(), strict=True)
    return [[seconds(time), number(value)] for time, value in pairs]


def encode_json(result: Result) -> bytes:
    """`encode` as JSON bytes."""
    return b"".join(json_parts(result))


def json_parts(result: Result) -> list[bytes]:
    """`encode` as JSON in parts to be joined; of a matrix, number lists that orjson formats."""
    if result.type != "matrix" or isinstance(result.data, str):
        return [orjson.dumps(encode(result))]
    prefixes = _TimePrefixes()
    parts = [b'{"resultType":"matrix","result":[']
    for place, series in enumerate(result.data):
        metric = orjson.dumps(dict(series.labels))
        parts += [b',{"metric":' if place else b'{"metric":', metric, b',"values":']
        parts += [_points_json(series, prefixes), b"}"]
    parts.append(b"]}")
    return parts


class _TimePrefixes:
    """Cached `"],[<time>,"` before each value: the series of a matrix mostly share their times."""

    def __init__(self) -> None:
        self._times: Times = np.empty(0, dtype=np.int64)
        self._texts: list[bytes] = []

    def of(self, times: Times) -> list[bytes]:
        if times is not self._times and not np.array_equal(times, self._times):
            self._times = times
            texts = b',"\0"],['.join(_second_texts(times)) + b',"'
            self._texts = (b'"],[' + texts).split(b"\0")
        return self._texts


def _second_texts(times: Times) -> list[bytes]:
    """The times as `seconds` has them."""
    if (times % 1000).any():
        return orjson.dumps(list(map(seconds, times.tolist())))[1:-1].split(b",")
    whole = np.ascontiguousarray(times // 1000)
    return orjson.dumps(whole, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def _points_json(series: ResultSeries, prefixes: _TimePrefixes) -> bytes:
    if not len(series.times):
        return b"[]"
    parts = [b""] * (2 * len(series.times) + 1)
    parts[0:-1:2] = prefixes.of(series.times)
    parts[1::2] = _number_texts(series.values)
    parts[0] = b"[" + parts[0].removeprefix(b'"],')
    parts[-1] = b'"]]'
    return b"".join(parts)


def _number_texts(values: Values) -> list[bytes]:
    """The values as `number` formats them: all by orjson where none needs an exponent."""
    size = np.abs(values)
    if not (((size >= 1e-4) & (size < 1e15)) | (size == 0)).all():
        return [number(value).encode() for value in values.tolist()]
    texts = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    plain = texts[1:-1]
    if b".0," in plain or plain.endswith(b".0"):
        plain = plain.replace(b".0,", b",").removesuffix(b".0")
    return plain.split(b",")
