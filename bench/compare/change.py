"""One pair of rows: b against a, by the best measurement that there is of the two together.

Where both were timed in the rounds of the same processes, the ratio is taken round by round, as in the table; where
each was timed beside the real layer, over that; elsewhere over two sets of processes (Welch). What was counted is
exact. Figures of trainings are compared over the same seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import pandas as pd

from ..metrics import METRICS
from ..stats import (
    LEVEL,
    Estimate,
    Interval,
    combination,
    estimate,
    estimate_interval,
    log_estimate,
    process_interval,
)
from ..table.findings import Finding, Findings
from .direction import by_difference

Row = Mapping[Any, Any]  # a column's name → its value


class Method(StrEnum):
    """How the two rows of a pair were measured, as far as it bears on their ratio."""

    ROUNDS = "in the same rounds"
    BASELINE = "each beside the real layer"
    APART = "in processes of their own"
    SEEDS = "over the same seeds"
    EXACT = "counted"


_NONE = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Change:
    """b against a in one pair: the ratio of their figures, or their difference where the metric asks for that.

    estimate: of the logarithm of the ratio, or of the difference; processes: the ratios of processes that timed both;
    cluster: pairs of one cluster may share their noise; problem: why there is no figure; lost: a has one, b failed.
    """

    metric: str
    names: tuple[str, str]
    values: tuple[float, float]
    estimate: Estimate = _NONE
    method: Method = Method.EXACT
    processes: tuple[float, ...] = ()
    cluster: str = ""
    marks: tuple[str, ...] = ()
    problem: str = ""
    lost: bool = False

    def interval(self, level: float = LEVEL) -> Interval:
        """The ratio, or the difference, with its interval; without a figure all NaN."""
        if self.processes:
            return process_interval(self.processes, level)
        return shown(estimate_interval(self.estimate, level), self.metric)


def shown(inner: Interval, metric: str) -> Interval:
    """The interval of an estimate on the scale that is read: a ratio, or a difference."""
    if by_difference(metric):
        return inner
    return Interval(math.exp(inner.value), math.exp(inner.lo), math.exp(inner.hi))


# --------------------------------------------------------------------------------- measured and counted figures


Key = tuple[str, str, str, str]  # case, machine, code and run: one measurement


@dataclass(frozen=True)
class Measured:
    """What lies behind the rows of a comparison within one run: its timings, and each case's log latency ratio."""

    findings: Findings | None
    ratios: Mapping[Key, Estimate]


def of_one_run(findings: Findings | None, rows: pd.DataFrame) -> Measured:
    """What lies behind the rows of a table. findings: None where it came without its raw rounds."""
    found = rows[(rows["metric"] == "latency_ratio") & (rows["status"] == "ok")]
    return Measured(findings, {_key(row): _estimate(row) for row in found.to_dict("records")})


def change(row: Row, metric: str, run: Measured | None) -> Change:
    """The change in one pair of rows, whose columns end in _a and _b; run: what lies behind both, if one."""
    a, b = _side(row, "_a"), _side(row, "_b")
    values = _value(a["value"]), _value(b["value"])
    found = Change(
        metric,
        names=(str(a["variant"]), str(b["variant"])),
        values=values,
        cluster=f"{a['group_id']} {a['env_id']}",
        marks=tuple(sorted({mark for own in (a, b) for mark in str(own["marks"]).split(",") if mark})),
        problem=_problem(a, b) or _no_ratio(values, metric),
        lost=_lost(a, b),
    )
    if found.problem:
        return found
    if METRICS[metric].task == "static":
        return replace(found, estimate=Estimate(_difference(values, metric)))
    if metric in ("latency", "latency_ratio") and run and _key(a)[1:] == _key(b)[1:]:
        if paired := process_ratios(run.findings, _key(a), _key(b)) if run.findings else []:
            logs = estimate([math.log(ratio) for ratio in paired])
            return replace(found, estimate=logs, method=Method.ROUNDS, processes=tuple(paired))
        beside = [run.ratios.get(_key(own)) for own in (a, b)]
        if a["group_id"] == b["group_id"] and beside[0] and beside[1]:
            return replace(found, estimate=combination((-1, 1), (beside[0], beside[1])), method=Method.BASELINE)
    return replace(found, estimate=combination((-1, 1), (_estimate(a), _estimate(b))), method=Method.APART)


def process_ratios(findings: Findings, a: Key, b: Key) -> list[float]:
    """The median ratio b / a of each process that timed both, in the newest timings of either; empty without one."""
    both = _beside(findings, a, b) or [(of_a, of_b) for of_b, of_a in _beside(findings, b, a)]
    medians = findings.rounds.medians([of_b.span for _, of_b in both], [of_a.span for of_a, _ in both])
    return [float(ratio) for ratio in medians[:, 0]]


def _beside(findings: Findings, case: Key, other: Key) -> list[tuple[Finding, Finding]]:
    """What each process of a case's newest timing found of it and of the other; empty if one has not both."""
    own = findings.of(case[0], case[1], "timing")
    pairs = [(mine, theirs) for mine in own if (theirs := findings.beside(mine, other[0]))]
    sound = all(f.status == "ok" and f.span[1] for pair in pairs for f in pair)
    return pairs if sound and len(pairs) == len(own) else []


def _key(row: Row) -> Key:
    return str(row["case_id"]), str(row["env_id"]), str(row["code_rev"]), str(row.get("run", ""))


def _estimate(row: Row) -> Estimate:
    """The estimate of a log figure behind its row."""
    processes: int = 0 if pd.isna(row["processes"]) else int(row["processes"])
    return log_estimate(Interval(_value(row["value"]), _value(row["lo"]), _value(row["hi"])), processes)


def _value(value: Any) -> float:
    return math.nan if pd.isna(value) else float(value)


def _problem(a: Row, b: Row) -> str:
    told = [f"{s}: {own['status']} ({own['reason']})" for s, own in (("a", a), ("b", b)) if own["status"] != "ok"]
    told += [f"{s}: no number" for s, own in (("a", a), ("b", b)) if own["status"] == "ok" and pd.isna(own["value"])]
    return "; ".join(told)


def _no_ratio(values: tuple[float, float], metric: str) -> str:
    if by_difference(metric) or values[0] == values[1] or min(values) > 0:  # nothing to nothing is no change
        return ""
    return f"no ratio of {values[1]:g} to {values[0]:g}"


def _difference(values: tuple[float, float], metric: str) -> float:
    """b less a on the scale of an estimate: of figures, or of their logarithms."""
    a, b = values
    if by_difference(metric):
        return b - a
    return 0.0 if a == b else math.log(b / a)


def _lost(a: Row, b: Row) -> bool:
    return bool(a["status"] == "ok" and b["status"] not in ("ok", "skipped"))


# -------------------------------------------------------------------------------------------------- over seeds


def over_seeds(rows: pd.DataFrame, metric: str) -> Change:
    """The change in one net, over the seeds that both sides have: rows is a line for each."""
    lines = [(_side(row, "_a"), _side(row, "_b")) for row in rows.to_dict("records")]
    every = [((_value(a["value"]), _value(b["value"])), _problem(a, b)) for a, b in lines]
    problems = [problem or _no_ratio(values, metric) for values, problem in every]
    found = [values for (values, _), problem in zip(every, problems, strict=True) if not problem]
    failed = next(filter(None, problems), "")
    each = [_difference(values, metric) for values in found]
    means = [statistics.fmean(pair[i] for pair in found) if found else math.nan for i in (0, 1)]
    a, b = lines[0]
    return Change(
        metric, (str(a["variant"]), str(b["variant"])), (means[0], means[1]),
        estimate=estimate(each) if each else _NONE, cluster=str(a["case_id"]),
        method=Method.EXACT if METRICS[metric].task == "static" else Method.SEEDS,
        marks=(f"{len(lines) - len(each)} of {len(lines)} seeds failed",) if each and failed else (),
        problem="" if each else failed, lost=any(_lost(a, b) for a, b in lines),
    )  # fmt: skip


def _side(row: Row, end: str) -> dict[str, Any]:
    return {name.removesuffix(end): value for name, value in row.items() if name.endswith(end)}
