"""What a comparison cannot tell, in sentences: each names what was found and what to do about it."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import pandas as pd

from ..metrics import METRICS
from ..stats import Estimate, Verdict, estimate_interval, resolvable
from .change import Method, shown
from .comparison import Compared, Comparison, mean_of
from .direction import by_difference, worse
from .where import as_text


def caveats(comparison: Comparison) -> list[str]:
    """All that stands against reading the figures as they are."""
    found = [_machines(comparison), _revisions(comparison)]
    for compared in comparison.metrics:
        found += [_apart(compared), _control(comparison, compared), *_of_pairs(compared), _unseen(compared)]
    return [text for text in dict.fromkeys(found) if text]


def _values(rows: pd.DataFrame, column: str) -> list[str]:
    return sorted(set(as_text(rows[column]).unique()) - {""})


def _machines(comparison: Comparison) -> str:
    a, b = (_values(side.rows, "env_id") for side in (comparison.a, comparison.b))
    if a == b:
        return ""
    return f"a was measured on {', '.join(a)}, b on {', '.join(b)}: what differs is machine and software, whole"


def _revisions(comparison: Comparison) -> str:
    mixed = []
    for name, side in (("a", comparison.a), ("b", comparison.b)):
        # a training is made of more sources than a timing, so that its revision is another
        for _, rows in side.rows.groupby(side.rows["data"] != "none"):
            if len(own := _values(rows, "code_rev")) > 1:
                mixed.append(f"{name} holds rows of {len(own)} code revisions ({', '.join(own[:4])})")
    return "; ".join(mixed) + ": name one with code_rev= in --a and --b" if mixed else ""


def _apart(compared: Compared) -> str:
    """Ratios whose noise did not cancel."""
    apart = [found for found in compared.measured if found.method is Method.APART]
    if not apart:
        return ""
    return (
        f"{compared.metric}: {len(apart)} of {len(compared.measured)} pairs were timed in processes of their own: "
        "how the machine changed between them is in the ratio, and not in its interval"
    )


def _control(comparison: Comparison, compared: Compared) -> str:
    """The real layers of two runs, whose code is torch's: if they changed, the machine did."""
    if compared.metric != "latency" or comparison.a.source.path == comparison.b.source.path:
        return ""
    if _values(comparison.a.rows, "env_id") != _values(comparison.b.rows, "env_id"):
        return ""
    real = [found for found in compared.measured if found.names == ("real", "real")]
    mean = mean_of(real)
    if mean is None:
        return ""
    interval = shown(estimate_interval(mean), compared.metric)
    if worse(interval, compared.metric, compared.margin) in (Verdict.SAME, Verdict.CANT_TELL):
        return ""
    return (
        f"the real layers, torch's own code, take {interval.value:.3g} [{interval.lo:.3g}, {interval.hi:.3g}] times "
        "as long in b: the machine changed between the runs; --metric latency_ratio compares each with its real layer"
    )


def _of_pairs(compared: Compared) -> list[str]:
    metric, total = compared.metric, len(compared.changes)
    single = sum(math.isnan(found.estimate.variance) for found in compared.measured)
    failed = sum(bool(found.problem) for found in compared.changes)
    marked = Counter(mark for found in compared.measured for mark in found.marks)
    through = sum(found.method is Method.BASELINE for found in compared.measured)
    return [
        f"{metric}: {failed} of {total} pairs have no figure, the reason in its place; no mean includes them"
        if failed
        else "",
        f"{metric}: {single} of {total} pairs have one process or seed on a side: no interval, so no verdict"
        if single
        else "",
        f"{metric}: {', '.join(f'{mark} are {count}' for mark, count in sorted(marked.items()))} of "
        f"{len(compared.measured)} pairs: measure those again on a quiet machine"
        if marked
        else "",
        f"{metric}: {through} of {total} pairs share no process, or the table came without its raw rounds: their "
        "intervals, by way of the real layer, are wider than those of rounds in common"
        if through
        else "",
        f"{metric}: {compared.only_a} rows only in a, {compared.only_b} only in b: compared is what both have"
        if compared.only_a or compared.only_b
        else "",
    ]


def _unseen(compared: Compared) -> str:
    """The smallest worsening that a typical pair of those that cannot be told would have shown."""
    open_ = [found for found in compared.measured if compared.verdict(found) is Verdict.CANT_TELL]
    finite = [found.estimate for found in open_ if not math.isnan(found.estimate.variance)]
    if not finite or by_difference(compared.metric) or METRICS[compared.metric].task == "static":
        return ""
    among = round(0.05 / (1 - compared.level))
    seen = statistics.median(_resolved(own, compared.margin, among) for own in finite)
    return (
        f"{compared.metric}: {len(open_)} of {len(compared.measured)} pairs cannot be told apart; half of them would "
        f"be called worse in 95 % of runs only from a ratio of {seen:.3g} on: more processes see smaller ones"
    )


def _resolved(own: Estimate, margin: float, among: int) -> float:
    processes = max(2, round(own.df) + 1)
    return resolvable(math.sqrt(own.variance * processes), processes, margin, max(1, among))
