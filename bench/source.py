"""Where the rows of a comparison come from: a run folder with its raw rounds, or a table file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import UsageError
from .records import COLUMNS, derive
from .store import read_plan, read_tasks

# (case, env, code revision) → chunk → repetition → seconds, a value a round: what shares chunk and repetition was
# timed in the same process, its rounds aligned
Rounds = Mapping[tuple[str, str, str], Mapping[str, Mapping[int, Sequence[float]]]]


@dataclass(frozen=True)
class Source:
    """A tidy table, and what is known besides: raw rounds, and the code revisions of a folder, oldest first."""

    path: Path
    rows: pd.DataFrame
    rounds: Rounds = field(default_factory=dict)
    revisions: tuple[str, ...] = ()


def read(path: Path, code_rev: str | None = None) -> Source:
    """The source at ``path``: a run folder, or a table.parquet or .csv.

    code_rev: the first digits of a revision; without it, for each case the newest. Raises UsageError for what is
    neither, for a table without the columns, and for a revision that is not there.
    """
    if path.is_dir() and (path / "plan.jsonl").exists():
        return _folder(path, code_rev)
    if path.is_dir():
        found = next((path / name for name in ("table.parquet", "table.csv") if (path / name).exists()), None)
        if found is None:
            raise UsageError(f"{path} holds neither a run (plan.jsonl) nor a table (table.parquet, table.csv)")
        path = found
    rows = _table(path)
    if code_rev is not None:
        revisions = tuple(rows["code_rev"].dropna().unique())
        rows = rows[rows["code_rev"] == _revision(path, revisions, code_rev)]
    return Source(path, rows.reset_index(drop=True))


def _table(path: Path) -> pd.DataFrame:
    from .report import table

    if path.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{path} is neither a run folder nor a table: name a folder, a .parquet or a .csv file")
    try:
        df = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=_TEXT, na_values=[""])
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # what pyarrow and pandas raise of a damaged file
        raise UsageError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    if absent := [name for name in _NEEDED if name not in df.columns]:
        raise UsageError(f"{path} is no table of records: it has no column {', '.join(absent)}")
    df = df.reindex(columns=list(COLUMNS))  # a table of an older version lacks some
    for column in ("twin", "reason", "marks"):
        df[column] = df[column].fillna("")
    return table.frame([dict(zip(df.columns, row, strict=True)) for row in df.itertuples(index=False, name=None)])


_NEEDED = ("subject", "variant", "algebra", "shape", "metric", "value", "status", "case_id", "group_id")
_NUMBERS = ("n", "batch", "channels", "out_channels", "size", "kernel_size", "width_scale", "seed", "rank", "threads",
            "value", "lo", "hi", "samples", "processes", "schema")  # fmt: skip
_TEXT = {name: "str" for name in COLUMNS if name not in _NUMBERS}


def _folder(path: Path, code_rev: str | None) -> Source:
    from . import roofs
    from .report import table

    plan, lines = read_plan(path), read_tasks(path)
    revisions = tuple(dict.fromkeys(line["code_rev"] for line in lines))
    if code_rev is not None:
        wanted = _revision(path, revisions, code_rev)
        lines = [line for line in lines if line["code_rev"] == wanted]
    records = derive(plan, lines, roofs.load(path / roofs.FILE))
    if not records:
        raise UsageError(f"{path} holds no finished case yet: bench run continues it")
    return Source(path, table.frame(records), rounds(lines), revisions)


def _revision(path: Path, revisions: Sequence[str], begins: str) -> str:
    found = [revision for revision in revisions if revision.startswith(begins)]
    if len(found) != 1:
        what = "several code revisions that begin with" if found else "no code revision"
        raise UsageError(f"{path} has {what} {begins}: it has {', '.join(revisions) or 'none'}")
    return found[0]


def rounds(lines: Sequence[Mapping[str, Any]]) -> Rounds:
    """The rounds of every complete chunk of timing tasks; of each case, the chunk finished last comes last."""
    found: dict[tuple[str, str, str], dict[str, dict[int, list[float]]]] = {}
    asked: dict[str, int] = {}
    for line in (line for line in lines if line["kind"] == "timing"):
        for result in line["results"]:
            chunk = f"{line['chunk_id']}/{result.get('part', 0)}"  # parts of a task ran in processes of their own
            asked[chunk] = min(asked.get(chunk, line["siblings"]), line["siblings"])
            if result["status"] == "ok" and result["seconds"]:
                of_case = found.setdefault((result["case_id"], line["env_id"], line["code_rev"]), {})
                own = of_case.pop(chunk, {})  # taken out and put in again: what was touched last stands last
                of_case[chunk] = own | {line["repetition"]: result["seconds"]}
    return {
        key: {chunk: own for chunk, own in chunks.items() if len(own) >= asked[chunk]}
        for key, chunks in found.items()
    }
