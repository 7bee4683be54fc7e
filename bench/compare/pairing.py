"""Which row of one side is compared with which of the other: those that agree in every factor but the named ones."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..errors import UsageError
from .where import as_text

# what both rows of a pair share unless it is named
_ALWAYS = ("phase", "timer", "compile", "dtype", "precision", "threads", "data", "recipe")
_VARIANT = ("subject", "algebra", "n", "rank", "control")  # what the column variant says in short

# columns in which two rows of a side may differ, for messages
_TELLING = (
    "subject",
    "variant",
    "path",
    "memory_format",
    "batch",
    "channels",
    "size",
    *_ALWAYS,
    "env_id",
    "run",
    "shape",
)


@dataclass(frozen=True)
class Pairs:
    """What is compared: two rows a line, columns ending in ``_a`` and ``_b``; how many rows found no other side."""

    rows: pd.DataFrame
    only_a: int
    only_b: int


def pair(a: pd.DataFrame, b: pd.DataFrame, named: Collection[str], metric: str) -> Pairs:
    """The rows of ``metric`` of both sides, paired over all factors that are not named.

    A factor that one side does not take (path, rank and memory format of a real layer, n of a fixed algebra) is not
    asked of the other: one real case stands against every path of a variant. Raises UsageError where a case of each
    side could be paired with several of the other.
    """
    a, b = (_own(side[side["metric"] == metric], named) for side in (a, b))
    if _real(a).all() != _real(b).all():
        a, b = (_baselines_only(side, named) for side in (a, b))
    keys = _keys(a, b, named)
    left, right = (side.assign(**{f"key_{name}": column for name, column in keys_of(side, keys, named).items()})
                   for side in (a, b))  # fmt: skip
    on = [f"key_{name}" for name in keys] + ([] if "seed" in named else ["seed"])
    _check(left, right, on, metric)
    merged = left.merge(right, on=on, suffixes=("_a", "_b"))
    return Pairs(
        merged,
        only_a=len(left) - merged["case_id_a"].nunique() if len(left) else 0,
        only_b=len(right) - merged["case_id_b"].nunique() if len(right) else 0,
    )


def _real(rows: pd.DataFrame) -> pd.Series[bool]:
    return (rows["algebra"] == "real") & (rows["control"] == "none") & (rows["twin"] == "")


def _own(rows: pd.DataFrame, named: Collection[str]) -> pd.DataFrame:
    """Without slim controls, unless they are asked for: they stand for another net."""
    return rows if {"control", "variant"} & set(named) else rows[rows["control"] == "none"]


def _baselines_only(rows: pd.DataFrame, named: Collection[str]) -> pd.DataFrame:
    """Of a real layer in several memory formats the one that others are held to."""
    if "memory_format" in named:
        return rows
    return rows[~_real(rows) | rows["baseline_id"].isna() | (rows["case_id"] == rows["baseline_id"])]


def _keys(a: pd.DataFrame, b: pd.DataFrame, named: Collection[str]) -> list[str]:
    """The factors in which a pair agrees, besides the seed."""
    if "variant" in named:
        named = {*named, *_VARIANT}
    sides = [side for side in (a, b) if len(side)]
    every = [bool(_real(side).all()) for side in sides]
    learned = all((side["algebra"] == "ph").any() for side in sides)
    takes_path = not any((side["path"] == "none").all() for side in sides)
    asked = {
        "subject": True,
        "shape": True,
        "algebra": True,
        "n": learned,
        "rank": learned,
        "path": takes_path,
        "memory_format": not any(every) or all(every),
        "control": True,
        "env_id": True,
        "run": all("run" in side for side in (a, b)),
        **dict.fromkeys(_ALWAYS, True),
    }
    return [key for key, wanted in asked.items() if wanted and key not in named]


def keys_of(rows: pd.DataFrame, keys: Collection[str], named: Collection[str]) -> dict[str, pd.Series[str]]:
    """The columns to pair on, as text, so that tables from different files agree."""
    found = {name: as_text(rows[name]) for name in keys if name not in ("subject", "shape", "control", "n")}
    if "subject" in keys:
        found["subject"] = as_text(rows["subject"])
    if "shape" in keys:
        found["shape"] = _shape(rows, named)
    if "control" in keys:  # the id in it differs between cases; the variant says what is controlled
        found["control"] = rows["variant"].where(rows["control"] != "none", "none").astype(str)
    if "n" in keys:  # of a fixed algebra it is no choice
        found["n"] = as_text(rows["n"]).where(rows["algebra"] == "ph", "")
    return found


def _shape(rows: pd.DataFrame, named: Collection[str]) -> pd.Series[str]:
    """The shape without the named axes; of what is measured beside a twin, the twin's."""
    own = rows["shape"]
    if "subject" in named:
        plain = rows[rows["twin"] == ""].drop_duplicates("group_id").set_index("group_id")["shape"]
        own = own.where(rows["twin"] == "", rows["group_id"].map(plain).fillna(own))
    shapes = {
        shape: json.dumps({k: v for k, v in json.loads(shape).items() if k not in named}, sort_keys=True)
        for shape in own.unique()
    }
    return own.map(shapes)


def _check(left: pd.DataFrame, right: pd.DataFrame, on: list[str], metric: str) -> None:
    """Several rows of one side may meet one of the other; several and several are no pairs."""
    counts = [side.groupby(on, dropna=False).size() for side in (left, right)]
    both = pd.concat(counts, axis=1, keys=("a", "b"), join="inner")
    many = both[(both["a"] > 1) & (both["b"] > 1)]
    if many.empty:
        return
    key = many.index[0] if isinstance(many.index[0], tuple) else (many.index[0],)
    of_key = [side[(side[on].astype(str) == [str(part) for part in key]).all(axis=1)] for side in (left, right)]
    told = [f"--{side} has {len(rows)} cases that differ in {_differ(rows)}"
            for side, rows in zip("ab", of_key, strict=True)]  # fmt: skip
    raise UsageError(f"which {metric} is compared with which? {', '.join(told)}: name a value in --a and --b")


def _differ(rows: pd.DataFrame) -> str:
    found = [name for name in _TELLING if name in rows and rows[name].nunique(dropna=False) > 1]
    name = found[0] if found else "nothing that is a factor"
    values: list[Any] = list(dict.fromkeys(as_text(rows[name]))) if found else []
    return f"{name} ({', '.join(values)})" if values else name
