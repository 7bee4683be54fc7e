"""The tidy table on disk and back: table.csv and table.parquet, the same rows in both."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv as pa_csv
from pyarrow import parquet as pa_parquet

from ..errors import UsageError
from ..store.folder import write_whole
from ..store.lines import SCHEMA, plain
from . import frames

_NEVER_ABSENT = ("twin", "reason", "marks")  # empty text is an answer there; a CSV cannot tell it from none


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write table.csv and table.parquet; the same rows in both."""
    csv, parquet = folder / "table.csv", folder / "table.parquet"
    write_whole(csv, lambda path: df.to_csv(path, index=False))
    write_whole(parquet, lambda path: df.to_parquet(path, index=False, write_page_checksum=True))
    return [csv, parquet]


def read(path: Path) -> pd.DataFrame:
    """A table that was written, from either file. A UsageError in a line for what is no such table."""
    try:
        table = (
            _read_csv(path) if path.suffix == ".csv" else pa_parquet.read_table(path, page_checksum_verification=True)
        )
        if lacking := [column for column in frames.TYPES.names if column not in table.column_names]:
            raise UsageError(
                f"{path} is no table of records: it has no column {lacking[0]!r}; if an older version "
                "wrote it, bench report makes it anew from its run folder"
            )
        table = table.select(frames.TYPES.names).cast(frames.TYPES)
    except FileNotFoundError:
        raise UsageError(f"no file {path}: name a run folder, a table.parquet or a table.csv") from None
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own errors are among these
        raise UsageError(f"{path} is no sound table of records: {plain(str(error))}") from None
    found = frames.pandas(table.combine_chunks())
    if not (right := found["schema"] == SCHEMA).fillna(False).all():
        other = found.loc[~right.fillna(False), "schema"].iloc[0]
        raise UsageError(f"{path} is of schema {other}, not {SCHEMA}: read it with the version that wrote it")
    return found


def _read_csv(path: Path) -> pa.Table:
    found = pa_csv.read_csv(
        path,
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(column_types=frames.TYPES, null_values=[""], strings_can_be_null=True),
    )
    for column in _NEVER_ABSENT:
        if column in found.column_names:
            place = found.column_names.index(column)
            found = found.set_column(place, column, found[column].fill_null(""))
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
