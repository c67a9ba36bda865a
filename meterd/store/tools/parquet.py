"""Exports as Parquet files, with the extra `pip install meterd[parquet]`."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from meterd.errors import MeterdError
from meterd.store.tools.export import COLUMNS, Line

_ROWS = 100_000  # in one row group: what is in memory


def write(found: Iterable[Line], target: Path) -> None:
    """One row a sample; times are timestamps in UTC. Raises MeterdError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        text = "Parquet needs pyarrow: pip install 'meterd[parquet]', or use --format csv"
        raise MeterdError(text, code="extra") from error
    words = pa.dictionary(pa.int32(), pa.string())
    kinds: list[Any] = [pa.timestamp("ms", tz="UTC"), words, words, words, pa.float64(), words]
    schema = pa.schema(list(zip(COLUMNS, [*kinds, pa.string()], strict=True)))
    each = iter(found)
    with pq.ParquetWriter(target, schema) as file:
        while some := list(islice(each, _ROWS)):
            columns = zip(*some, strict=True)
            arrays = [
                pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
            ]
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))
