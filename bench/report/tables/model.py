"""A table before it is Markdown, LaTeX or CSV: cells that know their number, their rank and their caveats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Cell:
    """text: as a person reads it; value, lo, hi: the number, to supported digits, in the column's unit.

    best: better than all that it is compared with, as a test says; notes: caveats, each a footnote.
    """

    text: str = ""
    value: float | None = None
    lo: float = math.nan
    hi: float = math.nan
    best: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """name: its head with the unit; words: text, set to the left; group: ``index``, ``csv``, or its theme."""

    name: str
    words: bool = False
    group: str = "index"


@dataclass(frozen=True)
class Table:
    """name: of its files; title: its heading; below: paragraphs that follow it."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    below: tuple[str, ...] = ()
    caption: str = field(default="")

    def shown(self) -> Table:
        """The table without what is for its CSV alone."""
        kept = [i for i, column in enumerate(self.columns) if column.group != "csv"]
        cut = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[i] for i in kept), rows=cut)

    def only(self, group: str, name: str) -> Table | None:
        """The index and the columns of one group, without rows that are empty there; None where there is none."""
        index = [i for i, column in enumerate(self.columns) if column.group == "index"]
        own = [i for i, column in enumerate(self.columns) if column.group == group]
        rows = [row for row in self.rows if any(row[i].text for i in own)]
        if not own or not rows:
            return None
        kept = [i for i in (*index, *own) if i in index or any(row[i].text for row in rows)]
        cut = tuple(tuple(row[i] for i in kept) for row in rows)
        return replace(self, name=name, columns=tuple(self.columns[i] for i in kept), rows=cut)

    def pieces(self, most: int) -> list[Table]:
        """The table cut to pages of ``most`` rows; what stands below it stands below the last."""
        if len(self.rows) <= most:
            return [self]
        starts = range(0, len(self.rows), most)
        return [
            replace(
                self,
                name=f"{self.name}_{1 + start // most}",
                rows=self.rows[start : start + most],
                below=self.below if start + most >= len(self.rows) else (),
            )
            for start in starts
        ]


def words(text: object) -> Cell:
    """A cell of text."""
    return Cell("" if text is None else str(text))


def footnotes(rows: Iterable[Sequence[Cell]]) -> dict[str, str]:
    """Note → its mark: a, b, … in the order of reading."""
    notes = dict.fromkeys(note for row in rows for cell in row for note in cell.notes)
    return {note: _mark(index) for index, note in enumerate(notes)}


def _mark(index: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return (
        letters[index] if index < len(letters) else _mark(index // len(letters) - 1) + letters[index % len(letters)]
    )
