"""The table in short, for people: Markdown, a row a variant, a column a metric, failures by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from . import tables
from .tables.model import Table
from .tables.numbers import plus_minus, readable
from .tables.render import markdown, markdown_text
from .varying import differing

__all__ = ["plus_minus", "readable", "section", "summary"]

_MOST_FAILURES = 200  # that are named one by one


def summary(df: pd.DataFrame, made: Sequence[Table] | None = None) -> str:
    """A section for each table of the subjects, and what was not measured with the reason.

    made: those tables, where they are there already.
    """
    parts = [section(table) for table in (tables.of(df) if made is None else made)]
    lost = df[df["status"] != "ok"]
    lines = [line for _, rows in lost.groupby("subject", sort=False) for line in _failed(rows)]
    if lines:
        more = f"\n- and {len(lines) - _MOST_FAILURES:,} more, see table.csv" if len(lines) > _MOST_FAILURES else ""
        parts.append("### Not measured\n\n" + "\n".join(lines[:_MOST_FAILURES]) + more)
    return "\n\n".join(parts) + "\n"


def section(table: Table) -> str:
    """A table under its heading."""
    return f"### {' '.join(table.title.split())}\n\n{markdown(table)}"


def _failed(rows: pd.DataFrame) -> list[str]:
    """What was not measured of one subject, by variant and by the axes in which its failures differ."""
    rows = rows.assign(shape=differing(rows["shape"]))
    told: list[dict[Any, Any]] = rows.drop_duplicates(["variant", "shape", "status", "reason"]).to_dict("records")
    return [_failure(row) for row in told]


def _failure(row: dict[Any, Any]) -> str:
    of = markdown_text(", ".join(filter(None, (str(row["variant"]), row["shape"]))))
    reason = markdown_text(" ".join(str(row["reason"]).split()))
    return f"- `{markdown_text(str(row['subject']))}` {of}: **{row['status']}** ({reason})"
