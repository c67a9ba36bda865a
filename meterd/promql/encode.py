"""Answers as Prometheus' HTTP API spells them."""

import math

import numpy as np
import orjson

from meterd.promql.result import Result, ResultSeries
from meterd.promql.source import Times, Values

_FORM: dict[str, str] = {"vector": "value", "matrix": "values"}


def number(value: float, *, plain: bool = False) -> str:
    """The shortest digits that read back the same, as Go writes them.

    An exponent is used below 1e-6 and from 1e21; plain never uses one (Go's format 'f').
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
    """Whole seconds as an int, else with at most three decimals."""
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def encode(result: Result) -> dict[str, object]:
    """{"resultType": …, "result": …}, ready for JSON: times in seconds, values as texts."""
    data = result.data
    if isinstance(data, str):
        return {"resultType": result.type, "result": [seconds(result.time), data]}
    if result.type == "scalar":
        # Prometheus never writes a scalar with an exponent, though it does so in vectors.
        text = number(float(data[0].values[0]), plain=True)
        return {"resultType": "scalar", "result": [seconds(result.time), text]}
    rows: list[dict[str, object]] = []
    for each in data:
        points = _points(each)
        value = points if result.type == "matrix" else points[0]
        rows.append({"metric": dict(each.labels), _FORM[result.type]: value})
    return {"resultType": result.type, "result": rows}


def _points(series: ResultSeries) -> list[list[object]]:
    pairs = zip(series.times.tolist(), series.values.tolist(), strict=True)
    return [[seconds(time), number(value)] for time, value in pairs]


def encode_json(result: Result) -> bytes:
    """The same as `encode`, as JSON bytes; wide matrices are joined from orjson's number lists."""
    if result.type != "matrix" or isinstance(result.data, str):
        return orjson.dumps(encode(result))
    heads = _Heads()
    rows = (
        b'{"metric":'
        + orjson.dumps(dict(each.labels))
        + b',"values":'
        + _listed(each, heads)
        + b"}"
        for each in result.data
    )
    return b'{"resultType":"matrix","result":[' + b",".join(rows) + b"]}"


class _Heads:
    """What stands before each value; series of one answer mostly share their times."""

    def __init__(self) -> None:
        self._times: Times = np.empty(0, dtype=np.int64)
        self._texts: list[str] = []

    def of(self, times: Times) -> list[str]:
        if not np.array_equal(times, self._times):
            self._times = times
            self._texts = [f'"],[{time},"' for time in map(seconds, times.tolist())]
        return self._texts


def _listed(series: ResultSeries, heads: _Heads) -> bytes:
    if not len(series.times):
        return b"[]"
    parts = [""] * (2 * len(series.times))
    parts[0::2] = heads.of(series.times)
    parts[1::2] = _texts(series.values)
    parts[0] = parts[0].removeprefix('"],')
    return ("[" + "".join(parts) + '"]]').encode()


def _texts(values: Values) -> list[str]:
    """All at once where the shortest digits need no exponent, one by one where they might."""
    size = np.abs(values)
    if not (((size >= 1e-4) & (size < 1e15)) | (size == 0)).all():
        return [number(value) for value in values.tolist()]
    texts = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    plain = texts[1:-1].replace(b".0,", b",").removesuffix(b".0")
    return plain.decode().split(",")
