"""Tables: of each subject and phase, of trainings, of the published models; as Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...store.folder import write_whole
from ..provenance import MADE_BY, Provenance
from ..slug import file_name
from .measured import THEMES, measured
from .model import Table
from .render import csv, latex, markdown, markdown_text
from .trained import trained

PAGE_ROWS = 45  # of a LaTeX table: what has more goes on further pages


def of(df: pd.DataFrame) -> list[Table]:
    """A table for each subject and phase, and for each subject and data set that it was trained on."""
    rows = df[df["status"] != "skipped"]
    rows = rows.assign(subject=rows["twin"].where(rows["twin"] != "", rows["subject"]))  # compared, so shown together
    found = []
    for (subject, phase), own in rows[rows["data"] == "none"].groupby(["subject", "phase"], sort=False):
        if (own["status"] == "ok").any():
            found.append(measured(own, f"{subject}, {phase}", file_name(f"{subject}_{phase}")))
    for (subject, data), own in rows[rows["data"] != "none"].groupby(["subject", "data"], sort=False):
        if (own["status"] == "ok").any():
            found.append(trained(own, f"{subject} on {data}", file_name(f"{subject}_on_{data}")))
    return _named_apart(found)


def _named_apart(tables: Sequence[Table]) -> list[Table]:
    """Names that differ in what no file name can hold get a number."""
    taken: dict[str, int] = {}
    made = []
    for table in tables:
        turn = taken[table.name.lower()] = taken.get(table.name.lower(), 0) + 1
        name = table.name if turn == 1 else f"{table.name}_{turn}"
        made.append(Table(name, table.title, table.columns, table.rows, table.below))
    return made


def write(tables: Sequence[Table], folder: Path, provenance: Provenance | None = None) -> list[Path]:
    """Each table as .md and .csv, and as .tex: what has costs and counts as two that fit a page."""
    folder.mkdir(parents=True, exist_ok=True)
    told = (provenance or Provenance()).text
    written = []

    def put(name: str, text: str) -> None:
        path = folder / name
        write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))
        written.append(path)

    for table in tables:
        put(f"{table.name}.md", f"{markdown(table)}\n\n<!-- {markdown_text(told)} -->\n")
        put(f"{table.name}.csv", csv(table))
        for piece in for_pages(table):
            put(f"{piece.name}.tex", latex(piece, told))
    _clear(folder, written)
    return written


def _clear(folder: Path, written: Sequence[Path]) -> None:
    """Remove the tables that were here before and are no more; what does not say that it is ours stays."""
    for path in [*folder.glob("*.md"), *folder.glob("*.tex")]:
        if path not in written and MADE_BY in path.read_text(encoding="utf-8", errors="replace"):
            path.unlink()
            if path.suffix == ".md" and path.with_suffix(".csv") not in written:
                path.with_suffix(".csv").unlink(missing_ok=True)


def for_pages(table: Table) -> list[Table]:
    """The tables of a paper that a table makes: narrow enough and short enough for a page."""
    groups = [group for group in THEMES if any(column.group == group for column in table.columns)]
    if not groups:
        return table.pieces(PAGE_ROWS)
    cut = [
        (group, table.only(group, table.name if group == groups[0] else f"{table.name}_{group}")) for group in groups
    ]
    made = []
    for group, part in cut:
        if part is not None:
            # remarks on verdicts and means belong to times
            own = part if group == "costs" else Table(part.name, part.title, part.columns, part.rows)
            made += own.pieces(PAGE_ROWS)
    return made
