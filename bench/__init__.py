"""The harness: sweeps a registry of layers and models, measures them, and keeps what it measured in tidy tables.

``bench.load(path)`` gives what was measured as a DataFrame, ``bench.wide(df)`` a row for each case of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The records of a run folder, of a table.parquet or table.csv, or of all runs below a folder: a row a metric.

    docs/format.md has the columns. Of several runs: their rows one after the other, with a column ``run`` that names
    the folder of each. Raises UsageError for what is none of these, or is damaged.
    """
    from .table import tidy  # pandas loads when it is needed

    return tidy.load(path)


def wide(df: pd.DataFrame) -> pd.DataFrame:
    """A row for each case on each machine: its factors, then each metric's value, ``_lo``, ``_hi`` and ``_status``.

    Raises UsageError where two rows of ``df`` say the same metric of one case on one machine.
    """
    from .table import tidy

    return tidy.wide(df)
