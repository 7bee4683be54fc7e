"""Which rows of a tidy table a person asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from phnn.algebras import near_matches

from ..errors import UsageError
from ..plan.selection import parse_filter
from .records import OF_TASK, OWN, SAID


def select(df: pd.DataFrame, filters: Sequence[str]) -> pd.DataFrame:
    """The rows that every ``key=value[,value…]`` allows, with those of their baselines and slim controls."""
    wanted = dict(parse_filter(text) for text in filters)
    rows = {*SAID, *OWN, *OF_TASK}
    of_rows = {key: values for key, values in wanted.items() if key in rows}
    of_cases = {key: values for key, values in wanted.items() if key not in rows}
    kept = where(df, of_cases, "--filter")
    if not len(kept):
        return kept
    controls = {f"slim:{case}" for case in kept["case_id"].unique()}
    beside = df["case_id"].isin(kept["baseline_id"].dropna().unique()) | df["control"].isin(controls)
    return where(df[beside | df.index.isin(kept.index)], of_rows, "--filter")


def where(df: pd.DataFrame, wanted: Mapping[str, Any], named: str) -> pd.DataFrame:
    """The rows whose columns, or axes of their shapes, have the wanted values (any of a list).

    named: what a person calls the filter.
    """
    for key, value in wanted.items():
        column = _column(df, key, named)
        values = value if isinstance(value, list) else [value]
        if pd.api.types.is_numeric_dtype(column):
            try:
                values = [float(each) for each in values]
            except (TypeError, ValueError):
                raise UsageError(f"{named}: {key} is a number, not {value!r}") from None
        else:
            values = [str(each) for each in values]
        df = df[column.isin(values)]
    return df


def _column(df: pd.DataFrame, key: str, named: str) -> pd.Series[Any]:
    if key in df:
        return df[key]
    shapes = {text: json.loads(text) for text in df["shape"].dropna().unique()}
    axes = {axis for shape in shapes.values() for axis in shape}
    if key not in axes:
        near = near_matches(key, [*df.columns, *sorted(axes)])
        raise UsageError(f"{named}: the table has no column {key!r}, and no shape such an axis{near}")
    return df["shape"].map({text: str(shape[key]) if key in shape else "" for text, shape in shapes.items()})
