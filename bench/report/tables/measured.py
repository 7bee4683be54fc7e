"""What was measured of one subject in one phase: a row a variant, a column a metric, failures by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...metrics import METRICS
from ...stats import Verdict, geometric_means
from .. import units
from ..varying import differing, machines, varying
from . import numbers
from .model import Cell, Column, Table, words

MOST_ROWS = 300  # of a table; what has more is told by its means over groups, and its verdicts

# what belongs into one table of a paper, by what it is about; the rest counts operations
_THEMES = {
    "costs": ("params", "peak_bytes", "latency", "latency_ratio"),
    "limits": ("efficiency", "arithmetic_intensity", "energy", "compile_time"),
}
THEMES = (*_THEMES, "counts")

CAVEATS = {
    "noisy": "noisy: the interval is wider than 10 % on a side, or there is none",
    "drifting": "drifting: times changed in the course of the measurement",
    "throttled": "throttled: the processor lowered its clock meanwhile",
    "contended": "contended: other work ran on the machine meanwhile",
}
_BOLD = (
    "Bold: the fastest of its group, of which the verdict says FASTER (of the real layer: of all others SLOWER), "
    "with an interval that overlaps no other's."
)


def measured(rows: pd.DataFrame, title: str, name: str) -> Table:
    """The table of rows that share subject and phase: numbers and failures; skipped cases are none of both."""
    keys = varying(rows)
    several = rows.loc[rows["path"] != "none", "path"].nunique() > 1  # the real layer has none
    index = [key for key in keys if key != "path"] + ["variant"] + (["path"] if several else [])
    if rows.duplicated([*index, "metric"]).any():  # told apart by nothing that a table shows
        index += ["case_id"]
    order = [key for key in index if key not in ("variant", "path", "shape", "recipe", "case_id")]
    if rows["case_id"].nunique() * rows["env_id"].nunique() > MOST_ROWS and len(rows.groupby(index)) > MOST_ROWS:
        return overall_table(rows, keys, title, name)
    names = machines(rows["env_id"].dropna())
    rows = rows.assign(shape=differing(rows["shape"]), env_id=rows["env_id"].map(names).fillna(""))
    rows = rows.sort_values(order, kind="stable") if order else rows
    metrics = [m for m in dict.fromkeys([*METRICS, *rows["metric"].unique()]) if (rows["metric"] == m).any()]
    scales = {m: _scale(m, _good(rows[rows["metric"] == m])) for m in metrics}
    best = fastest(rows)
    lines = []
    verdicts = False
    kept = list(dict.fromkeys([*index, *_SHOWN]))
    cases: dict[tuple[Any, ...], dict[str, dict[Any, Any]]] = {}
    for row in rows[kept].astype(object).where(rows[kept].notna(), None).to_dict("records"):
        cases.setdefault(tuple(row[key] for key in index), {})[row["metric"]] = row
    for values, by_metric in cases.items():
        cells = [_factor(value) for value in values]
        cells += [_cell(by_metric.get(m), m, scales[m], best) for m in metrics]
        said = verdict(by_metric.get("latency_ratio"))
        verdicts |= bool(said)
        lines.append((*cells, words(said)))
    columns = [Column(_head(key), rows[key].dtype.kind not in "if") for key in index]
    columns += [Column(_metric_head(m, scales[m]), group=_theme(m)) for m in metrics]
    columns += [Column("verdict", True, "costs")]
    if not verdicts:
        columns, lines = columns[:-1], [line[:-1] for line in lines]
    below = [text for text in (_BOLD if best else "", margin(rows), overall(rows, keys)) if text]
    return Table(name, title, tuple(columns), tuple(lines), tuple(below))


_SHOWN = ("metric", "status", "reason", "value", "lo", "hi", "marks", "case_id", "env_id", "details")


def _theme(metric: str) -> str:
    return next((theme for theme, members in _THEMES.items() if metric in members), THEMES[-1])


def _head(key: str) -> str:
    return "machine" if key == "env_id" else key.replace("_", " ")


def _scale(metric: str, values: list[float]) -> units.Scale:
    """The unit of a column; parameters are counted to the last one."""
    return units.Scale(1, "") if metric == "params" else units.scale(metric, values)


def _metric_head(metric: str, scale: units.Scale) -> str:
    return scale.label(metric.replace("_", " "))


def _good(rows: pd.DataFrame) -> list[float]:
    return rows.loc[rows["status"] == "ok", "value"].dropna().astype(float).tolist()


def _factor(value: object) -> Cell:
    if pd.isna(value):  # type: ignore[call-overload]
        return Cell()
    return Cell(f"{value:g}", float(value)) if isinstance(value, int | float) else words(value)


def _cell(row: Mapping[str, Any] | None, metric: str, scale: units.Scale, best: set[tuple[str, str]]) -> Cell:
    """One number with its interval and caveats, or the status that stands in its place."""
    if row is None:
        return Cell()
    if row["status"] != "ok":
        reason = " ".join(str(row["reason"]).split())
        return Cell(row["status"], notes=(f"{row['status']}: {reason[:160]}{'…' if len(reason) > 160 else ''}",))
    value, lo, hi = (
        float(row[key]) / scale.factor if not pd.isna(row[key]) else math.nan for key in ("value", "lo", "hi")
    )
    if not math.isfinite(value):
        return Cell("not finite", notes=("not finite: the row says ok and holds no finite number",))
    marks = tuple(CAVEATS.get(mark, mark) for mark in str(row["marks"] or "").split(",") if mark and mark != "nan")
    exact = metric in METRICS and METRICS[metric].task == "static"
    digits = 2 if metric == "numeric_error" else 4 if exact else 3
    if math.isfinite(lo) and math.isfinite(hi) and hi > lo:
        rounded = numbers.supported(value, lo, hi)
        text = numbers.interval(value, lo, hi)
    else:
        text = f"{value:,.0f}" if metric == "params" else numbers.significant(value, digits)
        rounded = (value if metric == "params" else float(f"{value:.6g}"), math.nan, math.nan)
    is_best = metric == "latency_ratio" and (row["case_id"], str(row["env_id"])) in best
    return Cell(text, *rounded, best=is_best, notes=marks)


def verdict(row: Mapping[str, Any] | None) -> str:
    """What the row of a ratio says of it, or nothing."""
    return _verdict_of(row["details"]) if row is not None and row["status"] == "ok" else ""


def fastest(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """(case, machine) of the cases that are faster than all others of their group, as verdicts and intervals say.

    Against the real layer the verdict decides: it answers for all comparisons of the group at once. Between others
    there is none, so their intervals must not overlap: of two means by Student's t that is a test at 0.6 % or less.
    """
    ratios = rows[(rows["metric"] == "latency_ratio") & (rows["status"] == "ok")]
    found = set()
    for _, own in ratios.groupby(["group_id", "env_id"], sort=False):
        told: list[dict[Any, Any]] = own.to_dict("records")
        others = [row for row in told if row["case_id"] != row["baseline_id"]]
        if not others:
            continue
        if all(verdict(row) == Verdict.SLOWER for row in others):
            found |= {(row["case_id"], str(row["env_id"])) for row in told if row["case_id"] == row["baseline_id"]}
            continue
        first = min(others, key=lambda row: float(row["value"]))
        apart = all(first["hi"] < row["lo"] for row in others if row is not first and not pd.isna(row["lo"]))
        if verdict(first) == Verdict.FASTER and apart and not any(pd.isna(row["lo"]) for row in others):
            found.add((first["case_id"], str(first["env_id"])))
    return found


def margin(rows: pd.DataFrame) -> str:
    """What the verdicts of a table mean."""
    told = [json.loads(text or "{}") for text in rows.loc[rows["metric"] == "latency_ratio", "details"].unique()]
    margins = {f"{100 * own['margin']:g} %" for own in told if "verdict" in own}
    if not margins:
        return ""
    return (
        f"A verdict is about a difference of more than {', '.join(sorted(margins))} from the real layer; those of "
        "one group are right together with 95 %, while each interval is of 95 % by itself."
    )


# --------------------------------------------------------------------------------------------- over the groups

_IN_GROUP = ("path", "memory_format")  # factors in which the cases of a group may differ


def _means(rows: pd.DataFrame, keys: Sequence[str]) -> tuple[Any, dict[str, str]] | None:
    """Geometric means of the ratio by variant over the groups that all have, and what each group is called."""
    ratios = rows[(rows["metric"] == "latency_ratio") & (rows["status"] == "ok") & (rows["value"] > 0)]
    inner = ["variant", *(key for key in keys if key in _IN_GROUP)]
    if ratios.loc[ratios["path"] != "none", "path"].nunique() < 2 and "path" in inner:
        inner.remove("path")
    outer = [key for key in keys if key not in _IN_GROUP]
    several = ratios["env_id"].nunique() > 1
    ratios = ratios.assign(group=ratios["group_id"] + (" " + ratios["env_id"] if several else ""))
    first = ratios.drop_duplicates("group")[["group", *outer]].to_dict("records")
    names = {row["group"]: ", ".join(f"{_head(key)} {row[key]}" for key in outer) for row in first}
    compared = ratios[ratios["case_id"] != ratios["baseline_id"]]  # the baseline is 1 everywhere
    shown = compared[inner].astype(str)
    label = shown[inner[0]]
    for key in inner[1:]:
        label = label + (" " + shown[key]).where(shown[key] != "none", "")
    # the fastest memory format of a variant is not chosen here: each is a variant of its own
    by_variant = {
        str(name): dict(zip(own["group"], own["value"].astype(float), strict=True))
        for name, own in compared.groupby(label, sort=False)
    }
    return (geometric_means(by_variant), names) if len(names) > 1 and by_variant else None


_MOST_NAMED = 12  # groups that a sentence lists


def overall(rows: pd.DataFrame, keys: Sequence[str]) -> str:
    """A sentence on the means over the groups that all variants have, and on what was left out."""
    made = _means(rows, keys)
    if made is None:
        return ""
    found, names = made
    listed = [f"{names[group]} (no {', '.join(lacking)})" for group, lacking in found.left_out.items()]
    more = f"; and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    left = "; ".join(listed[:_MOST_NAMED]) + more
    if not found.cases:
        return f"No group has all variants, so there is no mean of the ratio over groups: {left}."
    means = ", ".join(f"{variant} {mean:.3g}" for variant, mean in found.means.items())
    groups = f"{len(found.cases)} groups that have" if len(found.cases) > 1 else "1 group that has"
    over = f"Geometric mean of the latency ratio over {groups} all variants: {means}."
    return f"{over} Left out: {left}." if left else over


def overall_table(rows: pd.DataFrame, keys: Sequence[str], title: str, name: str) -> Table:
    """A row a variant instead of a row a case: what is too long to be read."""
    made = _means(rows, keys)
    means = made[0].means if made is not None else {}
    groups = len(made[0].cases) if made is not None else 0
    counted = rows.assign(failed=rows["status"] != "ok").groupby(["variant", "case_id"], sort=False)["failed"].max()
    failed = counted.groupby("variant", sort=False).agg(["size", "sum"])
    told = rows[(rows["metric"] == "latency_ratio") & (rows["status"] == "ok")]
    said = pd.crosstab(told["variant"], told["details"].map(_verdict_of))
    verdicts = [str(word) for word in Verdict if word in said]
    # the means of a variant along several paths are rows of their own
    lines = []
    for variant in dict.fromkeys([*failed.index, *means]):
        of = variant if variant in failed.index else ""
        cells = [words(variant), _count(failed["size"], of), _count(failed["sum"], of)]
        mean = means.get(variant)
        cells.append(Cell(f"{mean:.3g}", float(f"{mean:.4g}")) if mean is not None else Cell())
        lines.append((*cells, *(_count(said[word], of) for word in verdicts)))
    columns = [Column("variant", True), Column("cases", group="costs"), Column("failed", group="costs")]
    columns += [Column("latency ratio", group="costs"), *(Column(word, group="costs") for word in verdicts)]
    over = f"Ratios are geometric means over the {groups:,} groups that all variants have."
    below = [
        f"{rows['case_id'].nunique():,} cases are too many for a table; they are in table.csv.",
        over if groups else "No group has all variants, so there is no mean of the ratio over groups.",
        "The columns on the right count the verdicts." if verdicts else "",
        margin(rows),
    ]
    return Table(name, title, tuple(columns), tuple(lines), tuple(filter(None, below)))


def _verdict_of(details: str) -> str:
    return str(json.loads(details or "{}").get("verdict", ""))


def _count(counts: pd.Series[Any], variant: str) -> Cell:
    count = int(counts.get(variant, 0)) if variant else None
    return Cell(f"{count:,}", count) if count is not None else Cell()
