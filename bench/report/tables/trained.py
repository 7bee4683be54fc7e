"""Trainings of one subject on one data set: how well each variant did, and its differences to its controls."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from ...metrics import METRICS
from ...stats import Interval, holm
from .. import units
from ..trained import ALPHA, COSTS, MAGNITUDES, Comparison, compare, headline, mean, overlap, slim_controls
from ..varying import differing, machines, varying
from . import numbers
from .model import Cell, Column, Table, words

_CONTROLS = ("real", "slim real")
_WORDS = ("variant", "path", "dtype", "precision", "recipe", "shape", "machine", "lr")

Line = dict[str, Cell]


def trained(rows: pd.DataFrame, title: str, name: str) -> Table:
    """A row a variant: means over seeds with intervals, and differences to the real and the slim real net."""
    rows = rows.assign(recipe=differing(rows["recipe"]), shape=differing(rows["shape"]))
    sound = _sound(rows)
    compared = headline(sound)
    told = [metric for metric in METRICS if metric not in COSTS and (sound["metric"] == metric).any()]
    paths = rows["path"].where(rows["path"] != "none").nunique()  # the real net has none
    index = [*(key for key in varying(rows) if key != "path"), "variant", *(["path"] if paths > 1 else [])]
    names = machines(rows["env_id"].dropna())
    lines: list[Line] = []
    made: list[tuple[Line, str, Comparison]] = []
    for values, own in rows.groupby(index, sort=False, dropna=False):
        line = {_head(key): _factor(names.get(str(v), v)) for key, v in zip(index, values, strict=True)}
        of_line = _sound(own)
        line["params"] = _params(of_line)
        lost = _lost(own)
        for metric in told:
            if len(found := of_line.loc[of_line["metric"] == metric, "value"].astype(float).tolist()):
                line[_metric_head(metric)] = _mean(metric, found, lost if metric == compared else ())
        mine = of_line[of_line["metric"] == compared]
        if len(mine):
            line["seeds"] = Cell(str(mine["seed"].nunique()), mine["seed"].nunique())
            line |= _rates(of_line)
            peers = sound[sound["env_id"] == mine["env_id"].iloc[0]]
            controls: list[list[str | None]] = [mine["baseline_id"].tolist(), slim_controls(mine, peers)]
            for control, ids in zip(_CONTROLS, controls, strict=True):
                if one := compare(mine, peers, ids, compared):
                    made.append((line, control, one))
        elif lost:
            line[_metric_head(compared)] = Cell(lost[0].partition(",")[0], notes=lost)
        lines.append(line)
    for (line, control, one), p in zip(made, holm([one.p for _, _, one in made]), strict=True):
        line[_minus(compared, control)] = _difference(compared, one, p)
        line[f"p against {control}"] = Cell(f"{p:.2g}", float(f"{p:.3g}"))
        line[f"verdict against {control}"] = words(one.verdict(p))
    best = _best(sound, compared) if len(lines) == rows["variant"].nunique() else None
    for line in lines:
        if best is not None and line["variant"].text == best:
            line[_metric_head(compared)] = replace(line[_metric_head(compared)], best=True)
    below = [_BOLD if best is not None else "", _notes(sound, compared, len(made)), _edges(sound)]
    heads = [*map(_head, index), "params", *map(_metric_head, told), "seeds", "lr"]
    heads += [_minus(compared, control) for control in _CONTROLS]
    heads += [f"{said} against {control}" for control in _CONTROLS for said in ("p", "verdict")]
    heads = [head for head in dict.fromkeys([*heads, _metric_head(compared)]) if any(head in line for line in lines)]
    columns = tuple(Column(head, head in _WORDS, "csv" if " against " in head else "index") for head in heads)
    body = tuple(tuple(line.get(head, Cell()) for head in heads) for line in lines)
    return Table(name, title, columns, body, tuple(filter(None, below)))


def _sound(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["status"] == "ok") & rows["value"].notna()]


# --------------------------------------------------------------------------------------------------------- cells


def _head(key: str) -> str:
    return "machine" if key == "env_id" else key.replace("_", " ")


def _metric_head(metric: str) -> str:
    return units.scale(metric, []).label(metric.replace("_", " "))


def _minus(metric: str, control: str) -> str:
    if metric in MAGNITUDES:
        return f"/ {control}"
    return f"- {control} (points)" if metric in units.PER_CENT else f"- {control}"


def _factor(value: object) -> Cell:
    if pd.isna(value):  # type: ignore[call-overload]
        return Cell()
    return Cell(f"{value:g}", float(value)) if isinstance(value, int | float) else words(value)


def _lost(own: pd.DataFrame) -> tuple[str, ...]:
    """A footnote for each training that failed."""
    failed = own[own["status"] != "ok"].drop_duplicates("case_id")
    told = zip(failed["status"], failed["seed"], failed["reason"], strict=True)
    return tuple(
        dict.fromkeys(f"{status}, seed {seed}: {' '.join(str(why).split())[:160]}" for status, seed, why in told)
    )


def _params(own: pd.DataFrame) -> Cell:
    """Parameters, and of a converted net how many of them went."""
    params = own.loc[own["metric"] == "params", "value"].astype(float)
    if not len(params):
        return Cell()
    removed = json.loads(own["details"].iloc[0] or "{}").get("params_removed")
    text = f"{params.iloc[0]:,.0f}" + (f" (-{100 * removed:.0f} %)" if removed else "")
    return Cell(text, float(params.iloc[0]))


def _mean(metric: str, values: Sequence[float], notes: tuple[str, ...]) -> Cell:
    if metric in MAGNITUDES and min(values) <= 0:  # a rule that is fixed has no distance
        return Cell(f"at most {max(values):.1e}", max(values), notes=notes)
    found = mean(metric, values)
    if metric in MAGNITUDES:
        text = f"{found.value:.1e}" if math.isnan(found.lo) else f"{found.value:.1e} [{found.lo:.1e}, {found.hi:.1e}]"
        return Cell(text, _short(found.value), _short(found.lo), _short(found.hi), notes=notes)
    factor = units.scale(metric, []).factor
    value, lo, hi = (end / factor for end in (found.value, found.lo, found.hi))
    return Cell(numbers.plus_minus(value, (hi - lo) / 2), *numbers.supported(value, lo, hi), notes=notes)


def _difference(metric: str, one: Comparison, p: float) -> Cell:
    said = f"(p = {p:.2g}, {one.verdict(p)})"
    ends = (one.interval.value, one.interval.lo, one.interval.hi)
    if metric in MAGNITUDES:
        value, lo, hi = map(math.exp, ends)
        return Cell(f"{value:.2g} [{lo:.2g}, {hi:.2g}] {said}", _short(value), _short(lo), _short(hi))
    value, lo, hi = (end / units.scale(metric, []).factor for end in ends)
    return Cell(f"{numbers.plus_minus(value, (hi - lo) / 2)} {said}", *numbers.supported(value, lo, hi))


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _rates(own: pd.DataFrame) -> Line:
    """The learning rates that a search found, the most frequent first, where there was one."""
    chosen = [rate for text in _once(own)["details"] if (rate := json.loads(text or "{}").get("lr"))]
    counted = sorted(((chosen.count(rate), rate) for rate in set(chosen)), reverse=True)
    return {"lr": words(", ".join(f"{rate:g} ×{times}" for times, rate in counted))} if chosen else {}


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(["case_id", "env_id"])


# --------------------------------------------------------------------------------------------------- what is said

_BOLD = "Bold: better than every other row over the same seeds, by the same test, adjusted by Holm."


def _best(rows: pd.DataFrame, metric: str) -> str | None:
    """The variant that did better than every other over the same seeds, by paired tests; None where none did."""
    rows = rows[rows["metric"] == metric]
    if rows["env_id"].nunique() > 1 or rows["variant"].nunique() < 2:
        return None
    means = {str(name): _middle(metric, own) for name, own in rows.groupby("variant", sort=False)}
    first = (max if METRICS[metric].better == "higher" else min)(means, key=lambda name: means[name])
    mine = rows[rows["variant"] == first]
    tests = []
    for _, other in rows[rows["variant"] != first].groupby("variant", sort=False):
        by_seed: Mapping[int, str] = dict(zip(other["seed"], other["case_id"], strict=True))
        one = compare(mine, rows, [by_seed.get(seed) for seed in mine["seed"]], metric)
        if one is None:
            return None
        tests.append(one)
    adjusted = holm([one.p for one in tests])
    return first if all(one.verdict(p) == "better" for one, p in zip(tests, adjusted, strict=True)) else None


def _middle(metric: str, own: pd.DataFrame) -> float:
    found: Interval = mean(metric, own["value"].astype(float).tolist())
    return found.value


def _edges(rows: pd.DataFrame) -> str:
    """A warning where a search ended at the edge of its grid."""
    found = {}
    for variant, own in _once(rows).groupby("variant", sort=False):
        if count := sum(bool(json.loads(text or "{}").get("lr_at_edge")) for text in own["details"]):
            found[str(variant)] = count
    if not found:
        return ""
    named = ", ".join(f"{variant} {count}×" for variant, count in found.items())
    return f"The best learning rate was the first or last that was tried, a better one may lie beyond: {named}."


def _notes(rows: pd.DataFrame, metric: str, comparisons: int) -> str:
    if not comparisons:
        return ""
    test = (
        "Student's paired test with the variance for repeated splits of one data set (Nadeau and Bengio 2003)"
        if overlap(rows[rows["metric"] == metric])
        else "Student's paired test"
    )
    adjusted = f", adjusted by Holm for the {comparisons} comparisons of the table" if comparisons > 1 else ""
    return (
        f"Differences are paired by seed, with an interval of 95 % each; p is that of {test}{adjusted}; "
        f"better and worse are said below p = {ALPHA}."
    )
