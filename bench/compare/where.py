"""Rows of the tidy table by ``key=value``: what ``--a``, ``--b`` and ``--filter`` select. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from phnn.algebras import near_matches

from ..errors import UsageError
from ..plan.selection import COMMA, canonical, parse_filter

# what a row can be selected by, besides the axes in its shape; run: of a folder of runs
KEYS = (
    "subject", "twin", "kind", "variant", "algebra", "n", "batch", "channels", "out_channels", "size", "kernel_size",
    "width_scale", "seed", "phase", "timer", "compile", "dtype", "precision", "path", "rank", "threads",
    "memory_format", "control", "data", "env_id", "code_rev", "case_id", "run",
)  # fmt: skip

Conditions = Mapping[str, tuple[str, ...]]


def one_each(text: str, flag: str) -> Conditions:
    """``algebra=ph,n=4``: conditions that all hold; a key given twice may have either value."""
    found: dict[str, tuple[str, ...]] = {}
    for part in COMMA.split(text):
        key, sign, value = (word.strip() for word in part.partition("="))
        if not sign or not key or not value:
            raise UsageError(f"{flag} {text!r} is not of the form key=value, for example algebra=ph,n=4")
        found[key] = (*found.get(key, ()), canonical(key, value, flag))
    return found


def any_of(texts: Sequence[str]) -> Conditions:
    """What several ``--filter algebra=ph,quaternion`` ask: conditions that all hold, each with any of its values."""
    found: dict[str, tuple[str, ...]] = {}
    for key, values in map(parse_filter, texts):
        found[key] = (*found.get(key, ()), *values)
    return found


def select(rows: pd.DataFrame, conditions: Conditions, flag: str) -> pd.DataFrame:
    """The rows that meet all conditions; a UsageError for a key that none has and for conditions that none meets."""
    kept = rows
    for key, values in conditions.items():
        column = text_of(rows, key, flag)
        have = sorted(column.unique())
        if absent := [value for value in values if value not in have]:
            raise UsageError(f"{flag}: no row has {key}={absent[0]}; {key} is one of {_some(have)}")
        kept = kept[column.loc[kept.index].isin(values)]
    if kept.empty:
        told = ",".join(f"{key}={value}" for key, values in conditions.items() for value in values)
        raise UsageError(f"{flag}: no row has {told} together")
    return kept


def text_of(rows: pd.DataFrame, key: str, flag: str) -> pd.Series[str]:
    """A column, or an axis of the shape, as text."""
    if key in KEYS and key in rows:
        return as_text(rows[key])
    shapes = {shape: json.loads(shape) for shape in rows["shape"].unique()}
    axes = sorted({axis for shape in shapes.values() for axis in shape})
    if key not in axes:
        raise UsageError(f"{flag}: no row has a factor {key!r}{near_matches(key, [*KEYS, *axes])}")
    return rows["shape"].map({shape: str(axes.get(key)) for shape, axes in shapes.items()})


def as_text(column: pd.Series) -> pd.Series[str]:
    """Values as a person writes them: whole numbers without a point, nothing where there is none."""
    return column.astype(object).where(column.notna(), "").map(str)


def _some(values: Sequence[str], most: int = 12) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more
