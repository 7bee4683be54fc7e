"""The tidy table as a DataFrame, from records. Every column has its type, whatever the records hold."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from .records import COLUMNS, OF_CASE, OF_TASK, OWN, SAID, Columns

_WHOLE = ("n", "rank", "seed", "threads", "samples", "processes", "schema", "batch", "channels", "out_channels",
          "size", "kernel_size")  # fmt: skip
_REAL = ("value", "lo", "hi", "width_scale")
_TEXT = pa.large_string()  # what pandas holds text in: no copy is made
DTYPES = {pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype(), _TEXT: pd.StringDtype(na_value=np.nan)}


def _type(column: str) -> pa.DataType:
    return pa.int64() if column in _WHOLE else pa.float64() if column in _REAL else _TEXT


TYPES = pa.schema([(column, _type(column)) for column in COLUMNS])


def of_records(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a DataFrame: whole numbers stay whole, numbers are floats, the rest is text."""
    return pandas(pa.table({name: _array(name, [record[name] for record in records]) for name in COLUMNS}))


def of_blocks(blocks: Iterable[Columns]) -> pd.DataFrame:
    """The same from blocks of records."""
    return pandas(pa.Table.from_batches(map(_batch, blocks), TYPES))


def _batch(block: Columns) -> pa.RecordBatch:
    said, *own, details, of_task = zip(*block.rows, strict=True)
    counts = list(map(len, said))
    arrays = {name: _array(name, _flat(values)) for name, values in zip(OWN, own, strict=False)}
    texts, of_text = _distinct(details)
    arrays |= _shared(["details"], [(text,) for text in texts], np.repeat(of_text, counts))
    arrays |= _shared(SAID, *_distinct(_flat(said)))
    tasks, of = _distinct(of_task)
    arrays |= _shared(OF_TASK, tasks, np.repeat(of, counts))
    arrays |= _shared(OF_CASE, block.cases, np.repeat(block.of, counts))
    return pa.record_batch({column: arrays[column] for column in COLUMNS})


def _flat(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(rows))


def _distinct(rows: Sequence[Hashable]) -> tuple[list[Any], np.ndarray]:
    """What differs among ``rows``, and which of it each of them is."""
    first: dict[Hashable, int] = {}
    found = np.fromiter(map(first.setdefault, rows, range(len(rows))), np.int64, len(rows))
    return list(first), np.searchsorted(np.fromiter(first.values(), np.int64, len(first)), found)


def _shared(columns: Sequence[str], rows: Sequence[Sequence[Any]], of: np.ndarray) -> dict[str, pa.Array]:
    """Columns of which ``rows`` holds each distinct row once; of: which of them stands where."""
    at = pa.array(of)
    own = [_array(name, list(map(itemgetter(i), rows))) for i, name in enumerate(columns)]
    return {name: pc.take(array, at, memory_pool=_POOL) for name, array in zip(columns, own, strict=True)}


# Arrow's own pool gives memory back after each block, and the kernel clears every page anew
_POOL = pa.system_memory_pool()


def _array(column: str, values: Sequence[Any]) -> pa.Array:
    return pa.array(values, _type(column), from_pandas=column in _REAL, memory_pool=_POOL)  # NaN is absent


def pandas(table: pa.Table) -> pd.DataFrame:
    """The same rows, each column of its type; ``table`` is used up."""
    found: pd.DataFrame = table.to_pandas(types_mapper=DTYPES.get, split_blocks=True, self_destruct=True)
    return found
