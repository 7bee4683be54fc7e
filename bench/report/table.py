"""The tidy table on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from phnn.algebras import near_matches

from ..errors import UsageError
from ..records import COLUMNS
from ..store import write_whole

_WHOLE = ("n", "rank", "seed", "threads", "samples", "processes", "schema", "batch", "channels", "out_channels",
          "size", "kernel_size")  # fmt: skip
_NUMBERS = ("value", "lo", "hi", "width_scale")

_LATER = {"twin": ""}  # columns that the first stored tables did not have


def frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records as a DataFrame: whole numbers stay whole, numbers are floats, the rest is text."""
    return _typed(pd.DataFrame(records, columns=list(COLUMNS) if not records else None))


def _typed(df: pd.DataFrame) -> pd.DataFrame:
    kinds = dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_NUMBERS, "Float64")
    return df.astype(kinds)


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write table.csv and table.parquet; the same rows in both."""
    csv, parquet = folder / "table.csv", folder / "table.parquet"
    write_whole(csv, lambda path: df.to_csv(path, index=False))
    write_whole(parquet, lambda path: df.to_parquet(path, index=False))
    return [csv, parquet]


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


def read(path: Path) -> pd.DataFrame:
    """A stored table, .parquet or .csv. A UsageError for what is none."""
    if path.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{path} is no table: it takes a .parquet or a .csv")
    try:
        df = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, ValueError) as error:  # pyarrow's and pandas' errors are both
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} cannot be read as a table: {said}") from None
    for column, value in _LATER.items():
        if column not in df:
            df[column] = value
    if lacking := [column for column in COLUMNS if column not in df]:
        raise UsageError(f"{path} is no table of bench run: it has no column {lacking[0]!r}")
    try:
        return _typed(df[[*COLUMNS, *(column for column in df if column not in COLUMNS)]])
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path} holds text where a number belongs: {error}") from None


def _read_csv(path: Path) -> pd.DataFrame:
    head = pd.read_csv(path, nrows=0).columns
    text = {column: "str" for column in head if column not in (*_WHOLE, *_NUMBERS)}
    df = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={c: [""] for c in (*_WHOLE, *_NUMBERS)})
    return df


def select(df: pd.DataFrame, filters: Sequence[str]) -> pd.DataFrame:
    """The rows that every ``key=value[,value…]`` allows."""
    for text in filters:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"--filter {text!r}: it takes key=value, such as algebra=ph,real")
        df = where(df, {key.strip(): [value.strip() for value in values.split(",")]}, "--filter")
    return df


def where(df: pd.DataFrame, wanted: dict[str, Any], named: str) -> pd.DataFrame:
    """The rows whose columns have the wanted values (any of a list). named: what a person calls the filter."""
    for key, value in wanted.items():
        if key not in df:
            raise UsageError(f"{named}: the table has no column {key!r}{near_matches(key, list(df.columns))}")
        values = value if isinstance(value, list) else [value]
        if pd.api.types.is_numeric_dtype(df[key]):
            try:
                values = [float(each) for each in values]
            except (TypeError, ValueError):
                raise UsageError(f"{named}: {key} is a number, not {value!r}") from None
        else:
            values = [str(each) for each in values]
        df = df[df[key].isin(values)]
    return df
