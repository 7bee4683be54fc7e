"""The tidy table: records as a DataFrame, on disk and back. Every column has its type, whatever the records hold."""

from __future__ import annotations

import itertools
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv as pa_csv
from pyarrow import parquet as pa_parquet

from phnn.algebras import near_matches

from ..errors import UsageError
from ..plan.selection import parse_filter
from ..store.folder import write_whole
from ..store.lines import SCHEMA, plain
from ..table.records import COLUMNS, OF_CASE, OF_TASK, OWN, SAID, Columns

_WHOLE = ("n", "rank", "seed", "threads", "samples", "processes", "schema", "batch", "channels", "out_channels",
          "size", "kernel_size")  # fmt: skip
_REAL = ("value", "lo", "hi", "width_scale")
_NEVER_ABSENT = ("twin", "reason", "marks")  # empty text is an answer there; a CSV cannot tell it from none
_TEXT = pa.large_string()  # what pandas holds text in: no copy is made
_PANDAS = {pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype(), _TEXT: pd.StringDtype(na_value=np.nan)}


def _type(column: str) -> pa.DataType:
    return pa.int64() if column in _WHOLE else pa.float64() if column in _REAL else _TEXT


def frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as a DataFrame: whole numbers stay whole, numbers are floats, the rest is text."""
    return _pandas(pa.table({name: _array(name, [record[name] for record in records]) for name in COLUMNS}))


def frame_of(blocks: Iterable[Columns]) -> pd.DataFrame:
    """The same from blocks of records."""
    schema = pa.schema([(column, _type(column)) for column in COLUMNS])
    return _pandas(pa.Table.from_batches(map(_batch, blocks), schema))


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


def _pandas(table: pa.Table) -> pd.DataFrame:
    found: pd.DataFrame = table.to_pandas(types_mapper=_PANDAS.get, split_blocks=True, self_destruct=True)
    return found


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write table.csv and table.parquet; the same rows in both."""
    csv, parquet = folder / "table.csv", folder / "table.parquet"
    write_whole(csv, lambda path: df.to_csv(path, index=False))
    write_whole(parquet, lambda path: df.to_parquet(path, index=False, write_page_checksum=True))
    return [csv, parquet]


def _read_csv(path: Path) -> pa.Table:
    found = pa_csv.read_csv(
        path,
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={column: _type(column) for column in COLUMNS}, null_values=[""], strings_can_be_null=True
        ),
    )
    for column in _NEVER_ABSENT:
        if column in found.column_names:
            place = found.column_names.index(column)
            found = found.set_column(place, column, found[column].fill_null(""))
    return found


def read(path: Path) -> pd.DataFrame:
    """A table that was written, from either file. A UsageError in a line for what is no such table."""
    try:
        table = (
            _read_csv(path) if path.suffix == ".csv" else pa_parquet.read_table(path, page_checksum_verification=True)
        )
        if lacking := [column for column in COLUMNS if column not in table.column_names]:
            raise UsageError(
                f"{path} is no table of records: it has no column {lacking[0]!r}; if an older version "
                "wrote it, bench report makes it anew from its run folder"
            )
        table = table.select(COLUMNS).cast(pa.schema([(column, _type(column)) for column in COLUMNS]))
    except FileNotFoundError:
        raise UsageError(f"no file {path}: name a run folder, a table.parquet or a table.csv") from None
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own errors are among these
        raise UsageError(f"{path} is no sound table of records: {plain(str(error))}") from None
    found = _pandas(table.combine_chunks())
    if not (right := found["schema"] == SCHEMA).fillna(False).all():
        other = found.loc[~right.fillna(False), "schema"].iloc[0]
        raise UsageError(f"{path} is of schema {other}, not {SCHEMA}: read it with the version that wrote it")
    return found


def find(at: Path) -> Path:
    """The stored table that ``at`` is, or that lies in it."""
    candidates = [at] if at.is_file() else [at / "table.parquet", at / "table.csv"]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise UsageError(
            f"{at} is no run folder (it has no plan.jsonl) and holds no table (table.parquet, table.csv): "
            "make one with bench run"
        )
    return found


def select(df: pd.DataFrame, filters: Sequence[str]) -> pd.DataFrame:
    """The rows that every ``key=value[,value…]`` allows, with those of their baselines and slim controls."""
    wanted = dict(parse_filter(text) for text in filters)
    rows = {*SAID, *OWN, *OF_TASK}
    of_rows = {key: values for key, values in wanted.items() if key in rows}
    of_cases = {key: values for key, values in wanted.items() if key not in rows}
    kept = where(df, of_cases, "--filter")
    if not len(kept):
        return kept
    controls = {f"slim:{case}" for case in kept["case_id"].unique()}
    beside = df["case_id"].isin(kept["baseline_id"].dropna().unique()) | df["control"].isin(controls)
    return where(df[beside | df.index.isin(kept.index)], of_rows, "--filter")


def where(df: pd.DataFrame, wanted: Mapping[str, Any], named: str) -> pd.DataFrame:
    """The rows whose columns, or axes of their shapes, have the wanted values (any of a list).

    named: what a person calls the filter.
    """
    for key, value in wanted.items():
        column = _column(df, key, named)
        values = value if isinstance(value, list) else [value]
        if pd.api.types.is_numeric_dtype(column):
            try:
                values = [float(each) for each in values]
            except (TypeError, ValueError):
                raise UsageError(f"{named}: {key} is a number, not {value!r}") from None
        else:
            values = [str(each) for each in values]
        df = df[column.isin(values)]
    return df


def _column(df: pd.DataFrame, key: str, named: str) -> pd.Series[Any]:
    if key in df:
        return df[key]
    shapes = {text: json.loads(text) for text in df["shape"].dropna().unique()}
    axes = {axis for shape in shapes.values() for axis in shape}
    if key not in axes:
        near = near_matches(key, [*df.columns, *sorted(axes)])
        raise UsageError(f"{named}: the table has no column {key!r}, and no shape such an axis{near}")
    return df["shape"].map({text: str(shape[key]) if key in shape else "" for text, shape in shapes.items()})
