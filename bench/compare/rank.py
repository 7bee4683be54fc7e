"""Variants ranked by the geometric mean of what they cost over the real layer, on the cases that all of them have.

A mean over whatever a variant happens to have would rank it by what it failed at. A variant that has fewer than half
of the cases is left out, since the others would be ranked by those few; so are, where no case has all that remain,
the ones in the fewest cases, one after the other. Each is said to be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pandas as pd

from ..errors import UsageError
from ..metrics import METRICS
from ..stats import MARGIN, Estimate, Interval, Verdict, combination, estimate_interval, verdict_level
from ..table.findings import Findings
from .change import change, of_one_run, shown
from .direction import turned, worse
from .where import as_text

REAL = "real"
Ratios = Mapping[str, Mapping[str, Estimate]]  # variant → group → its log ratio to the group's real layer


@dataclass(frozen=True)
class Place:
    """A variant's place: its mean over the real layer's, and the ranks that it may have.

    joint: the interval of the verdict, at which those of all variants are right together with 95 %.
    """

    variant: str
    mean: Interval
    joint: Interval
    verdict: Verdict
    first: int
    last: int


@dataclass(frozen=True)
class Ranking:
    """Places from best to worst. groups: the cases ranked over; left_out: variant → in how many of all it is."""

    metric: str
    title: str
    places: Sequence[Place]
    groups: Sequence[str]
    total: int
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[str] = ()
    single: int = 0
    subjects: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    margin: float = MARGIN


def rank(
    rows: pd.DataFrame, metric: str = "latency", by: Sequence[str] = (), findings: Findings | None = None,
    margin: float = MARGIN,
) -> list[Ranking]:  # fmt: skip
    """A ranking for each value of ``by``, and for each machine and run.

    findings: those behind the rows, for closer comparisons of two variants.
    Raises UsageError for a metric that is no cost of a call, and where nothing has a real layer beside it.
    """
    if metric not in METRICS or METRICS[metric].task == "training" or metric == "latency_ratio":
        costs = [name for name, own in METRICS.items() if own.task != "training" and name != "latency_ratio"]
        raise UsageError(
            f"--metric {metric}: ranked is one of {', '.join(costs)}; accuracies are compared by bench compare"
        )
    own = rows[(rows["metric"] == metric) & (rows["control"] == "none") & (rows["data"] == "none")]
    if own.empty:
        raise UsageError(f"--metric {metric}: the table has {', '.join(rows['metric'].unique())}")
    own = own.assign(called=_called(own))
    places = [name for name in ("run", "env_id") if name in own and as_text(own[name]).nunique() > 1]
    outer = list(dict.fromkeys([*places, *by]))
    parts = own.groupby(outer, sort=False, dropna=False) if outer else [((), own)]
    found = []
    for values, part in parts:
        title = ", ".join(f"{name} {value}" for name, value in zip(outer, values, strict=True))
        ranking = _ranking(part, rows, metric, title, findings, margin)
        if ranking is not None:
            found.append(ranking)
    if not found:
        raise UsageError(f"nothing to rank by {metric}: no case has a real layer beside it that has a figure, too")
    return found


def _called(rows: pd.DataFrame) -> pd.Series[str]:
    """The name of a variant: with its path and memory format where it is there in several."""
    name = rows["variant"].astype(str)
    for column in ("path", "memory_format"):
        several = rows.groupby("variant")[column].nunique()
        apart = rows["variant"].map(several) > 1
        name = name.where(~apart, name + " " + rows[column].astype(str))
    return name


def _ranking(
    part: pd.DataFrame, rows: pd.DataFrame, metric: str, title: str, findings: Findings | None, margin: float
) -> Ranking | None:
    sound = part[part["status"] == "ok"]
    ratios = _ratios(sound, rows, metric, findings)
    if len(ratios) < 2:
        return None
    kept, left_out = _kept(ratios)
    groups = _common(kept)
    means = {name: _mean([own[group] for group in groups]) for name, own in kept.items()}
    level = verdict_level(len(kept) - 1)
    ahead = _ahead(kept, groups, sound, metric, findings, margin)
    order = sorted(means, key=lambda name: turned(shown(estimate_interval(means[name]), metric), metric).value)
    joint = {name: shown(estimate_interval(mean, level), metric) for name, mean in means.items()}
    places = [
        Place(
            variant=name,
            mean=shown(estimate_interval(means[name]), metric),
            joint=joint[name],
            verdict=worse(joint[name], metric, margin),
            first=1 + sum((other, name) in ahead for other in kept),
            last=len(kept) - sum((name, other) in ahead for other in kept),
        )
        for name in order
    ]
    every = list(dict.fromkeys(group for own in ratios.values() for group in own))
    ranked = sound[sound["group_id"].isin(groups) & sound["called"].isin(kept)]
    failed = part[~part["status"].isin(["ok", "skipped"]) & part["called"].isin(kept)]
    return Ranking(
        metric, title, places, groups, len(every),
        lacking={group: tuple(name for name in kept if group not in ratios[name]) for group in every
                 if group not in groups},
        left_out={name: len(ratios[name]) for name in left_out},
        marks=_marks(ranked),
        failures=[f"{row.called} in {row.subject}, {row.phase}: {row.status} ({row.reason})"
                  for row in failed.itertuples()],
        single=sum(math.isnan(own[group].variance) for own in kept.values() for group in groups),
        subjects=tuple(ranked["subject"].unique()), phases=tuple(ranked["phase"].unique()), margin=margin,
    )  # fmt: skip


def _marks(rows: pd.DataFrame) -> dict[str, int]:
    found: dict[str, int] = {}
    for marks in as_text(rows["marks"]):
        for mark in filter(None, marks.split(",")):
            found[mark] = found.get(mark, 0) + 1
    return found


def _ratios(
    sound: pd.DataFrame, rows: pd.DataFrame, metric: str, findings: Findings | None
) -> dict[str, dict[str, Estimate]]:
    """The log ratio of each variant to the real layer of its group, the real layer (1 by definition) included."""
    real = sound[sound["case_id"] == sound["baseline_id"]]
    pairs = real.merge(sound, on="group_id", suffixes=("_a", "_b"))
    pairs = pairs.assign(group_id_a=pairs["group_id"], group_id_b=pairs["group_id"])
    run = of_one_run(findings, rows)
    found: dict[str, dict[str, Estimate]] = {}
    for row in pairs.to_dict("records"):
        same = row["case_id_a"] == row["case_id_b"]
        if not same and row["algebra_b"] == "real" and not row["twin_b"]:
            continue  # the slower memory format of the real layer
        made = change(row, metric, run)
        if not made.problem:
            name = REAL if same else row["called_b"]
            found.setdefault(name, {})[row["group_id"]] = Estimate(0.0) if same else made.estimate
    return found


def _common(ratios: Ratios) -> list[str]:
    every = dict.fromkeys(group for own in ratios.values() for group in own)
    return [group for group in every if all(group in own for own in ratios.values())]


def _kept(ratios: Ratios) -> tuple[dict[str, Mapping[str, Estimate]], list[str]]:
    """The variants that some case has all of, and those left out for it, the ones in the fewest cases first."""
    every = {group for own in ratios.values() for group in own}
    left_out = [name for name, own in ratios.items() if 2 * len(own) < len(every)]
    kept = {name: own for name, own in ratios.items() if name not in left_out}
    while len(kept) > 2 and not _common(kept):
        rarest = min((name for name in kept if name != REAL), key=lambda name: len(kept[name]))
        left_out.append(rarest)
        kept.pop(rarest)
    return kept, left_out


def _mean(own: Sequence[Estimate]) -> Estimate:
    """Mean of log ratios; groups share no process."""
    return combination([1 / len(own)] * len(own), own)


def _ahead(
    ratios: Ratios, groups: Sequence[str], sound: pd.DataFrame, metric: str, findings: Findings | None, margin: float
) -> set[tuple[str, str]]:
    """The pairs of variants whose first is shown to be ahead of its second; all are right together with 95 %."""
    pairs = list(combinations(ratios, 2))
    level = verdict_level(max(1, len(pairs)))
    lines = {(row["called"], row["group_id"]): row for row in sound.to_dict("records")}
    real = {row["group_id"]: row for row in lines.values() if row["case_id"] == row["baseline_id"]}
    run = of_one_run(findings, sound.iloc[:0])
    found = set()
    for a, b in pairs:
        each = []
        for group in groups:
            of_a, of_b = (real[group] if name == REAL else lines[name, group] for name in (a, b))
            row = {f"{key}_a": value for key, value in of_a.items()} | {f"{key}_b": v for key, v in of_b.items()}
            made = change(row, metric, run)
            beside = combination((-1, 1), (ratios[a][group], ratios[b][group]))
            each.append(made.estimate if made.processes else beside)
        verdict = worse(shown(estimate_interval(_mean(each), level), metric), metric, margin)
        if verdict is Verdict.SLOWER:
            found.add((a, b))
        if verdict is Verdict.FASTER:
            found.add((b, a))
    return found
