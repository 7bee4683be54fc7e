"""What was trained, for people: how well each variant did, and its difference to the controls over the same seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..metrics import METRICS
from ..stats import Interval, holm, log_interval, mean_interval, paired_difference, resampled_difference
from .summary import differing, markdown, plus_minus, readable, varying

_COSTS = ("params", "train_loss", "test_loss", "train_time")  # of a training; the others say how well it did
PERCENT = ("accuracy", "accuracy_before", "accuracy_projected", "f_score", "precision", "recall")
MAGNITUDES = ("mse", "rule_distance")  # compared by their ratios: they differ by powers of ten
ALPHA = 0.05  # of the adjusted p-values, for all comparisons of a table together


@dataclass(frozen=True)
class Comparison:
    """A variant's figures less those of its control, paired by seed; better: whether more of the metric is."""

    interval: Interval
    p: float
    pairs: int
    better: str

    def verdict(self, adjusted: float) -> str:
        """better, worse or can't tell, by a p-value that answers for all comparisons of the table."""
        if not adjusted < ALPHA:
            return "can't tell"
        return "better" if (self.interval.value > 0) == (self.better == "higher") else "worse"


def trained(rows: pd.DataFrame) -> str:
    """A line a variant: means over seeds with their intervals, and differences to the real and the slim real net."""
    rows = rows.assign(recipe=differing(rows["recipe"]), shape=differing(rows["shape"]))
    paths = rows["path"].where(rows["path"] != "none").nunique()  # the real net has none
    index = [*(key for key in varying(rows) if key != "path"), "variant", *(["path"] if paths > 1 else [])]
    told = [name for name in METRICS if name not in _COSTS and name in set(rows["metric"])]
    compared = headline(rows)
    lines: list[dict[str, Any]] = []
    made: list[tuple[dict[str, Any], str, Comparison]] = []
    for values, own in rows.groupby(index, sort=False, dropna=False):
        line = dict(zip(index, values, strict=True)) | {"params": _params(own)}
        for metric in told:
            found = own[own["metric"] == metric]["value"].astype(float).tolist()
            line[_head(metric)] = _mean(metric, found) if found else ""
        mine = own[own["metric"] == compared]
        if len(mine):
            line |= {"seeds": str(mine["seed"].nunique()), **_rates(own)}
            for control, ids in (("real", mine["baseline_id"]), ("slim real", _slim(mine, rows))):
                line[_minus(compared, control)] = ""
                if found_one := compare(mine, rows, list(ids), compared):
                    made.append((line, _minus(compared, control), found_one))
        lines.append(line)
    adjusted = holm([one.p for _, _, one in made])
    for (line, column, one), p in zip(made, adjusted, strict=True):
        line[column] = f"{_difference(compared, one.interval)} (p = {p:.2g}, {one.verdict(p)})"
    shown = pd.DataFrame(lines).fillna("")
    empty = [name for name in shown if (shown[name] == "").all()]
    notes = [_notes(rows, compared, len(made)), _edges(rows)]
    return "\n\n".join(filter(None, (markdown(shown.drop(columns=empty)), *notes)))


def headline(rows: pd.DataFrame) -> str:
    """The metric by which variants are compared: the first of those that say how well a training did."""
    present = set(rows["metric"])
    return next((name for name in METRICS if name not in _COSTS and name in present), "test_loss")


def compare(mine: pd.DataFrame, rows: pd.DataFrame, controls: Sequence[str | None], metric: str) -> Comparison | None:
    """The rows of one variant against the cases named in ``controls``, one for each; None with fewer than two pairs.

    Magnitudes are compared by their logarithms. Where seeds draw their splits from one set of examples, the test is
    the one for that (stats.resampled_difference).
    """
    of_metric = rows[rows["metric"] == metric]
    places = zip(of_metric["env_id"], of_metric["case_id"], strict=True)
    by_case = dict(zip(places, of_metric["value"].astype(float), strict=True))
    pairs = [
        (float(a), by_case[env_id, control])
        for a, env_id, case, control in zip(mine["value"], mine["env_id"], mine["case_id"], controls, strict=True)
        if (env_id, control) in by_case and control != case
    ]
    if len(pairs) < 2 or (metric in MAGNITUDES and min(map(min, pairs)) <= 0):
        return None
    scale: Callable[[float], float] = math.log if metric in MAGNITUDES else float
    a, b = ([scale(pair[side]) for pair in pairs] for side in (0, 1))
    overlap = _overlap(mine)
    interval, p = resampled_difference(a, b, overlap) if overlap else paired_difference(a, b)
    return Comparison(interval, p, len(pairs), METRICS[metric].better)


def _slim(mine: pd.DataFrame, rows: pd.DataFrame) -> list[str | None]:
    """The slim controls of a variant's cases."""
    slim = rows[rows["control"] != "none"]
    ids = {
        control.removeprefix("slim:"): case for control, case in zip(slim["control"], slim["case_id"], strict=True)
    }
    by_variant = dict(zip(zip(slim["group_id"], slim["variant"], strict=True), slim["case_id"], strict=True))
    return [
        ids.get(case) or by_variant.get((group, f"slim real ({variant})"))
        for case, group, variant in zip(mine["case_id"], mine["group_id"], mine["variant"], strict=True)
    ]


def _overlap(mine: pd.DataFrame) -> float:
    """Test over training examples where each seed draws its own split from one set of examples, else 0."""
    details = json.loads(mine["details"].iloc[0])
    counts = details.get("counts", {})
    return counts["test"] / counts["train"] if details.get("resampled") else 0.0


# ------------------------------------------------------------------------------------------------ how it is shown


def _head(metric: str) -> str:
    return f"{metric} (%)" if metric in PERCENT else metric


def _minus(metric: str, control: str) -> str:
    if metric in MAGNITUDES:
        return f"/ {control}"
    return f"- {control} (points)" if metric in PERCENT else f"- {control}"


def _mean(metric: str, values: Sequence[float]) -> str:
    if metric in MAGNITUDES:
        if min(values) <= 0:  # a rule that is fixed has no distance
            return f"at most {max(values):.1e}"
        found = log_interval(values)
        return f"{found.value:.1e}" if math.isnan(found.lo) else f"{found.value:.1e} [{found.lo:.1e}, {found.hi:.1e}]"
    found = mean_interval(values)
    scale = 100 if metric in PERCENT else 1
    return plus_minus(scale * found.value, scale * (found.hi - found.lo) / 2)


def _difference(metric: str, found: Interval) -> str:
    if metric in MAGNITUDES:
        value, lo, hi = (math.exp(end) for end in (found.value, found.lo, found.hi))
        return f"{value:.2g} [{lo:.2g}, {hi:.2g}]"
    scale = 100 if metric in PERCENT else 1
    return plus_minus(scale * found.value, scale * (found.hi - found.lo) / 2)


def _params(own: pd.DataFrame) -> str:
    """Parameters, and of a converted net how many of them went."""
    params = own[own["metric"] == "params"]["value"].astype(float)
    if not len(params):
        return ""
    removed = json.loads(own["details"].iloc[0]).get("params_removed")
    return readable(params.iloc[0], "1") + (f" (-{100 * removed:.0f} %)" if removed else "")


def _rates(own: pd.DataFrame) -> dict[str, str]:
    """The learning rates that a search found, the most frequent first, where there was one."""
    chosen = [rate for text in _once(own)["details"] if (rate := json.loads(text).get("lr"))]
    counted = sorted(((chosen.count(rate), rate) for rate in set(chosen)), reverse=True)
    return {"lr": ", ".join(f"{rate:g} ×{times}" for times, rate in counted)} if chosen else {}


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates("case_id")


def _edges(rows: pd.DataFrame) -> str:
    """A warning where a search ended at the edge of its grid."""
    found: Mapping[str, int] = {}
    for variant, own in _once(rows).groupby("variant", sort=False):
        if count := sum(bool(json.loads(text).get("lr_at_edge")) for text in own["details"]):
            found = {**found, str(variant): count}
    if not found:
        return ""
    named = ", ".join(f"{variant} {count}×" for variant, count in found.items())
    return f"The best learning rate was the first or last that was tried, a better one may lie beyond: {named}."


def _notes(rows: pd.DataFrame, metric: str, comparisons: int) -> str:
    if not comparisons:
        return ""
    splits = _overlap(rows[rows["metric"] == metric])
    test = (
        "Student's paired test with the variance for repeated splits of one data set (Nadeau and Bengio 2003)"
        if splits
        else "Student's paired test"
    )
    adjusted = f", adjusted by Holm for the {comparisons} comparisons of the table" if comparisons > 1 else ""
    return (
        f"Differences are paired by seed, with an interval of 95 % each; p is that of {test}{adjusted}; "
        f"better and worse are said below p = {ALPHA}."
    )
