"""The tidy table as a DataFrame, from wherever it is: a run folder, a table on disk, a folder of runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import UsageError
from ..machine import roofs
from ..metrics import METRICS
from ..store.folder import runs_below
from ..store.lines import each
from ..uncollected import uncollected
from . import files, frames
from .records import COLUMNS, blocks

# what tells two rows of the wide table apart, or says what their case is
_OF_ROW = (*COLUMNS[: COLUMNS.index("metric")], "baseline_id", "group_id")
_IDENTITY = ["case_id", "env_id"]


def load(path: str | os.PathLike[str]) -> pd.DataFrame:
    """See ``bench.load``."""
    path = Path(path)
    if not path.is_dir():
        return files.read(path)
    if is_run(path):
        return of_run(path)
    if (path / "table.parquet").is_file():
        return files.read(path / "table.parquet")
    runs = sorted(runs_below(path))
    if not runs:
        raise UsageError(f"{path} holds no run: name a run folder, a folder of runs, a table.parquet or a table.csv")
    found = []
    for run in runs:
        df = of_run(run) if is_run(run) else files.read(run / "table.parquet")
        found.append(df.assign(run=run.relative_to(path).as_posix()))
    return pd.concat(found, ignore_index=True)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run: it has a plan."""
    return (folder / "plan.jsonl").is_file()


def of_run(folder: Path, code_rev: str | None = None) -> pd.DataFrame:
    """The records of a run folder, derived from its lines; code_rev: from those of this revision alone."""
    with uncollected():
        plan, lines = each(folder, "plan.jsonl"), each(folder, "tasks.jsonl")
        if code_rev is not None:
            lines = (line for line in lines if line["code_rev"] == code_rev)
        return frames.of_blocks(blocks(plan, lines, roofs.of_run(folder)))


def wide(df: pd.DataFrame) -> pd.DataFrame:
    """See ``bench.wide``."""
    identity = _IDENTITY + [name for name in ("run",) if name in df]
    told = df.assign(env_id=df["env_id"].fillna(""))
    if (twice := told.duplicated([*identity, "metric"])).any():
        first = told[twice].iloc[0]
        raise UsageError(
            f"two rows have the {first['metric']} of case {first['case_id']} on {first['env_id'] or 'no machine'}: "
            "keep one of them, or join the runs with bench merge"
        )
    factors = told.groupby(identity, sort=False)[list(_OF_ROW)].first()
    parts: list[pd.DataFrame | pd.Series[Any]] = [factors]
    for metric in (name for name in METRICS if (told["metric"] == name).any()):
        own = told[told["metric"] == metric].set_index(identity)
        parts.append(own["value"].rename(metric))
        parts += [own[end].rename(f"{metric}_{end}") for end in ("lo", "hi") if own[end].notna().any()]
        parts.append(own["status"].rename(f"{metric}_status"))
    joined = pd.concat(parts, axis=1).reset_index()
    joined["env_id"] = joined["env_id"].where(joined["env_id"] != "")
    return joined
