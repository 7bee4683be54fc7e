"""The rows that the page shows: one for each case with a column for each metric, or means of them where there are
more cases than a browser holds."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...compare.where import as_text
from ...metrics import METRICS
from ...table.records import COLUMNS
from ..summary import plus_minus, readable

MOST = 10_000  # rows; more of them are averaged

# what tells cases apart, in the order of the table's columns; the first of them are averaged over last
_FACTORS = ("subject", "phase", "data", "variant", "path", "env_id", "channels", "batch", "dtype", "precision",
            "compile", "threads", "timer", "memory_format", "algebra", "n", "size", "out_channels", "kernel_size",
            "width_scale", "rank", "seed", "recipe", "code_rev", "place")  # fmt: skip
_NUMBERS = ("n", "channels", "batch", "threads", "size", "out_channels", "kernel_size", "width_scale", "rank", "seed")
_FIRST = ("latency_ratio", "latency", "accuracy", "sed_score", "mse", "params", "peak_bytes", "numeric_error")
_ALWAYS = ("subject", "variant", "algebra")


@dataclass(frozen=True)
class Column:
    """A column of the page. kind: ``text``, ``number`` or ``metric``, of which the fields _lo, _hi and _t are beside.

    chosen: whether rows can be chosen by its values.
    """

    field: str
    name: str
    kind: str
    unit: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Rows:
    """What the page shows: columns and their values by field; same: the factors that are alike in every row.

    averaged: the factors over which rows are means, none if each is one case; cases: how many there are in all.
    """

    columns: Sequence[Column]
    data: dict[str, Any]
    same: dict[str, str]
    averaged: Sequence[str]
    cases: int

    @property
    def count(self) -> int:
        return len(self.data["look"])


def page_rows(df: pd.DataFrame, most: int = MOST) -> Rows:
    """One row a case, or at most ``most`` means over the factors that have the most values."""
    df = df.reset_index(drop=True).assign(look=_look(df).to_numpy(), place=_shape(df).to_numpy())
    factors = [name for name in _FACTORS if name in _ALWAYS or df[name].nunique(dropna=False) > 1]
    same = {_TITLES.get(name, name): "".join(as_text(df[name][:1])) for name in _FACTORS if name not in factors}
    key = df.groupby(["case_id", "env_id"], sort=False, dropna=False).ngroup().to_numpy()
    first = df.iloc[np.unique(key, return_index=True)[1]]
    if len(first) <= most:
        same = {name: text for name, text in same.items() if text not in ("", "none")}
        return _whole(df, first, factors, key, same)
    kept = _kept(first, factors, most)
    averaged = [_TITLES.get(name, name) for name in factors if name not in kept]
    return _means(df, first, kept, averaged)


_TITLES = {"place": "shape"}  # the axes that have no column of their own


def _look(df: pd.DataFrame) -> pd.Series[str]:
    """The name by which a row has its colour, as in the figures."""
    look = df["algebra"].where(df["control"] == "none", "slim real")
    return look.mask(df["algebra"] == "none", df["subject"]).astype(str)


def _shape(df: pd.DataFrame) -> pd.Series[str]:
    """The axes of a shape that have no column of their own, in words."""
    own = {*_NUMBERS, *_FACTORS}
    told = {}
    for shape in df["shape"].unique():
        axes = {key: value for key, value in json.loads(shape).items() if key not in own and value is not None}
        told[shape] = ", ".join(f"{key}={value}" for key, value in axes.items())
    return df["shape"].map(told)


def field_of(metric: str) -> str:
    """A metric's field, which is also its name for people: some metrics are called like a factor."""
    return f"{metric}_metric" if metric in COLUMNS else metric


def _metric_column(metric: str) -> Column:
    return Column(field_of(metric), field_of(metric), "metric", METRICS[metric].unit)


def metrics_of(df: pd.DataFrame) -> list[str]:
    """The metrics of a table, those that people look for first."""
    there = set(df["metric"].unique())
    return [name for name in dict.fromkeys((*_FIRST, *METRICS)) if name in there]


def _telling(first: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """What a case is called, and the factors that tell it apart without those that follow from the ones before."""
    told: list[str] = []
    for name in factors:
        before = len(first.drop_duplicates(told)) if told else 1
        if name in ("subject", "variant") or len(first.drop_duplicates([*told, name])) > before:
            told.append(name)
    return told


# -------------------------------------------------------------------------------------------------- one row a case


def _whole(
    df: pd.DataFrame, first: pd.DataFrame, factors: Sequence[str], key: np.ndarray, same: dict[str, str]
) -> Rows:
    cases = len(first)
    telling = [name for name in _telling(first, factors) if name != "algebra"]
    chosen = {*telling, "algebra", "n"}
    columns, data = _factor_columns(first, telling, chosen)
    rows = df.assign(key=key)
    for metric in metrics_of(df):
        own = rows[rows["metric"] == metric].drop_duplicates("key", keep="last")
        columns.append(_metric_column(metric))
        data |= _spread(metric, own, cases)
    data["verdict"] = _verdicts(rows, cases)
    data["marks"] = _joined(rows, "marks", cases)
    data["failed"] = _failed(rows, cases)
    columns += [Column(name, name, "text", chosen=True) for name in ("verdict", "marks", "failed") if any(data[name])]
    rest = [name for name in factors if name not in telling and name not in ("recipe", "place")]
    more, of_more = _factor_columns(first, rest, chosen)  # they follow from the others: last
    columns, data = columns + more, data | of_more
    return Rows(columns, data, same, (), cases)


def _factor_columns(
    first: pd.DataFrame, factors: Sequence[str], chosen: Collection[str]
) -> tuple[list[Column], dict[str, Any]]:
    columns: list[Column] = []
    data: dict[str, Any] = {}
    for name in factors:
        if name in _NUMBERS:
            data[name] = first[name].to_numpy(dtype=float, na_value=np.nan)
        else:
            data[name] = as_text(first[name]).tolist()
        columns.append(
            Column(name, _TITLES.get(name, name), "number" if name in _NUMBERS else "text", chosen=name in chosen)
        )
    data["look"] = first["look"].tolist()
    return columns, data


def _spread(metric: str, own: pd.DataFrame, count: int) -> dict[str, Any]:
    """A metric's values, ends and texts by row; NaN, and the status as text, where there is no figure."""
    name, at = field_of(metric), own["key"].to_numpy()
    found: dict[str, Any] = {}
    for end, column in (("", "value"), ("_lo", "lo"), ("_hi", "hi")):
        values = np.full(count, np.nan)
        values[at] = own[column].to_numpy(dtype=float, na_value=np.nan)
        found[name + end] = values
    values, status = found[name], np.full(count, "", dtype=object)
    status[at] = own["status"].to_numpy()
    ok = status == "ok"
    for end in ("", "_lo", "_hi"):
        found[name + end] = np.where(ok, found[name + end], np.nan)
    found[f"{name}_t"] = [
        _text(metric, value, lo, hi) if good else str(why)
        for value, lo, hi, good, why in zip(
            values.tolist(), found[f"{name}_lo"].tolist(), found[f"{name}_hi"].tolist(), ok, status, strict=True
        )
    ]
    return found


def _text(metric: str, value: float, lo: float, hi: float) -> str:
    """A figure as the other tables have it."""
    if value != value:  # ok, and without a figure: NaN was measured
        return "nan"
    if math.isinf(value):  # of a relative error: the answer was no number
        return "infinite"
    if METRICS[metric].unit == "1" and hi > lo:
        return plus_minus(value, (hi - lo) / 2)
    return readable(value, METRICS[metric].unit)


def _verdicts(rows: pd.DataFrame, count: int) -> list[str]:
    own = rows[(rows["metric"] == "latency_ratio") & (rows["status"] == "ok")]
    found = [""] * count
    for key, details in zip(own["key"], own["details"], strict=True):
        found[key] = str(json.loads(details).get("verdict", ""))
    return found


def _joined(rows: pd.DataFrame, column: str, count: int) -> list[str]:
    """All marks of a case's rows, each once."""
    found: list[dict[str, None]] = [{} for _ in range(count)]
    marked = rows[as_text(rows[column]) != ""]
    for key, text in zip(marked["key"], marked[column], strict=True):
        found[key] |= dict.fromkeys(text.split(","))
    return [", ".join(own) for own in found]


def _failed(rows: pd.DataFrame, count: int) -> list[str]:
    """Why a case has no figure: its first reason."""
    found = [""] * count
    bad = rows[rows["status"] != "ok"]
    for key, status, reason in zip(bad["key"], bad["status"], bad["reason"], strict=True):
        found[key] = found[key] or f"{status}: {reason}"
    return found


# ----------------------------------------------------------------------------------------------------------- means


def _kept(first: pd.DataFrame, factors: Sequence[str], most: int) -> list[str]:
    """The factors to tell rows apart by: each in its turn, unless it would make too many rows."""
    kept = []
    rows = pd.factorize(first["look"])[0]
    for name in factors:
        own = pd.factorize(first[name], use_na_sentinel=False)[0]
        finer = np.unique(rows * (int(own.max()) + 1) + own, return_inverse=True)[1]
        if int(finer.max()) < most:
            kept.append(name)
            rows = finer
    return kept


def _means(df: pd.DataFrame, first: pd.DataFrame, kept: Sequence[str], averaged: Sequence[str]) -> Rows:
    """Geometric means of figures (of what may be 0, plain ones), with the least and the greatest of them."""
    key = df.groupby([*kept, "look"], sort=False, dropna=False).ngroup().to_numpy()
    count = int(key.max()) + 1
    columns, data = _factor_columns(df.iloc[np.unique(key, return_index=True)[1]], kept, kept)
    ok = (df["status"] == "ok").to_numpy()
    values = df["value"].to_numpy(dtype=float, na_value=np.nan)
    metrics = df["metric"].to_numpy()
    for metric in metrics_of(df):
        mine = ok & (metrics == metric) & ~np.isnan(values)
        columns.append(_metric_column(metric))
        data |= _mean(metric, key[mine], values[mine], count)
    bad = ~ok & (df["status"] != "skipped").to_numpy()
    of_case = key[df.index.get_indexer(first.index)]
    data["cases"] = np.bincount(of_case, minlength=count).astype(float)
    data["failures"] = np.bincount(key[bad], minlength=count).astype(float)
    columns += [Column(name, name, "number") for name in ("cases", "failures")]
    return Rows(columns, data, {}, averaged, len(first))


def _mean(metric: str, key: np.ndarray, values: np.ndarray, count: int) -> dict[str, Any]:
    many = np.bincount(key, minlength=count)
    log = bool(len(values)) and bool((values > 0).all())
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(key, weights=np.log(values) if log else values, minlength=count) / many
    mean = np.exp(mean) if log else mean
    lo, hi = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(lo, key, values)
    np.maximum.at(hi, key, values)
    lo, hi = np.where(many > 0, lo, np.nan), np.where(many > 0, hi, np.nan)
    unit = METRICS[metric].unit

    def text(rows: int, own: float, least: float, most: float) -> str:
        span = f" ({readable(least, unit)} to {readable(most, unit)})" if most > least else ""
        return f"{readable(own, unit)}{span}" if rows else ""

    texts = list(map(text, many.tolist(), mean.tolist(), lo.tolist(), hi.tolist()))
    name = field_of(metric)
    return {name: mean, f"{name}_lo": lo, f"{name}_hi": hi, f"{name}_t": texts}
