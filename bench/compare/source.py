"""Where the rows of a comparison come from: whatever ``bench.load`` reads, and of a run folder its timings too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ..errors import UsageError
from ..store.lines import Line, each
from ..table import tidy
from ..table.findings import Findings
from ..uncollected import uncollected


@dataclass(frozen=True)
class Source:
    """A tidy table. code_rev: that of all its rows, if one was asked for; else each case has the newest."""

    path: Path
    rows: pd.DataFrame
    code_rev: str | None = None

    @cached_property
    def findings(self) -> Findings | None:
        """What the tasks behind the rows found, raw rounds and all; None where the table came without them."""
        if not tidy.is_run(self.path):
            return None
        with uncollected():
            return Findings(_tasks(self.path, self.code_rev))


def read(path: Path, code_rev: str | None = None) -> Source:
    """The source at ``path``: a run folder, a folder of runs, a table.parquet or a table.csv.

    code_rev: the first digits of a revision; without it, for each case the newest. Raises UsageError for what is no
    such thing, and for a revision that is not there.
    """
    if tidy.is_run(path):
        revision = None if code_rev is None else _revision(path, _revisions(path), code_rev)
        rows = tidy.of_run(path, revision)
        if rows.empty:
            raise UsageError(f"{path} holds no finished case yet: bench run continues it")
        return Source(path, rows, revision)
    rows = tidy.load(path)
    if rows.empty:
        raise UsageError(f"{path} is empty: it has columns and no record")
    if code_rev is None:
        return Source(path, rows)
    revision = _revision(path, list(rows["code_rev"].dropna().unique()), code_rev)
    return Source(path, rows[rows["code_rev"] == revision].reset_index(drop=True), revision)


def _tasks(folder: Path, code_rev: str | None) -> Iterator[Line]:
    return (line for line in each(folder, "tasks.jsonl") if code_rev in (None, line["code_rev"]))


def _revisions(folder: Path) -> list[str]:
    """The code revisions of a folder, oldest first."""
    return list(dict.fromkeys(line["code_rev"] for line in each(folder, "tasks.jsonl")))


def _revision(path: Path, revisions: Sequence[str], begins: str) -> str:
    found = [revision for revision in revisions if revision.startswith(begins)]
    if len(found) != 1:
        what = "several code revisions that begin with" if found else "no code revision"
        raise UsageError(f"{path} has {what} {begins}: it has {', '.join(revisions) or 'none'}")
    return found[0]
