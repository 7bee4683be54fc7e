"""The tidy table on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..store import write_whole

_WHOLE = ("n", "rank", "seed", "threads", "samples", "processes", "schema", "batch", "channels", "out_channels",
          "size", "kernel_size")  # fmt: skip


def frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records as a DataFrame: whole numbers stay whole, numbers are floats, the rest is text."""
    df = pd.DataFrame(records)
    for column in _WHOLE:
        df[column] = df[column].astype("Int64")
    for column in ("value", "lo", "hi", "width_scale"):
        df[column] = df[column].astype("Float64")
    return df


def write(df: pd.DataFrame, folder: Path) -> list[Path]:
    """Write table.csv and table.parquet; the same rows in both."""
    csv, parquet = folder / "table.csv", folder / "table.parquet"
    write_whole(csv, lambda path: df.to_csv(path, index=False))
    write_whole(parquet, lambda path: df.to_parquet(path, index=False))
    return [csv, parquet]
