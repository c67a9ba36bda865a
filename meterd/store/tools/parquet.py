"""Exports as Parquet files, with the extra `pip install meterd[parquet]`."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from meterd.errors import GeneralCode, MeterdError
from meterd.store.db.extras import install_command

_ROWS = 100_000  # in one row group: what is in memory
_WORDS = ("device", "quantity", "unit", "quality")  # few, and many times


def write(found: Iterable[Sequence[Any]], columns: Sequence[str], target: Path) -> None:
    """Rows of these columns; times (Unix ms) are timestamps in UTC, `n` counts, texts are texts.

    Raises MeterdError without pyarrow, and before anything is written.
    """
    pa, pq = _arrow()
    words = pa.dictionary(pa.int32(), pa.string())
    kinds = {"time": pa.timestamp("ms", tz="UTC"), "n": pa.int64(), "reason": pa.string()}
    kinds |= dict.fromkeys(_WORDS, words)
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])
    each = iter(found)
    with pq.ParquetWriter(target, schema) as file:
        while some := list(islice(each, _ROWS)):
            cells = zip(*some, strict=True)
            arrays = [
                pa.array(column, field.type) for column, field in zip(cells, schema, strict=True)
            ]
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _arrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        install = install_command("parquet")
        text = f"Parquet needs pyarrow: {install}, or use --format csv"
        raise MeterdError(text, code=GeneralCode.EXTRA) from error
    return pa, pq
