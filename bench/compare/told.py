"""What ``bench compare`` and ``bench rank`` print: text that a person reads, and can diff."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from ..metrics import METRICS
from ..report.summary import plus_minus, readable
from ..stats import Interval
from .caveats import caveats
from .change import Method
from .comparison import Compared, Comparison, Side
from .direction import by_difference, said, worse
from .rank import Ranking
from .where import as_text


def plain(text: str) -> str:
    """Text that a file may have given, fit to stand in a line of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns as wide as their widest cell."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# ------------------------------------------------------------------------------------------------------- compare


def comparison(found: Comparison) -> str:
    """Both sides, a table for each metric, and what none of it can tell."""
    parts = [f"a: {_side(found.a)}\nb: {_side(found.b)}"]
    parts += [_metric(compared) for compared in found.metrics if compared.changes]
    parts += _caveats(caveats(found))
    return "\n\n".join(parts)


def _caveats(found: Sequence[str]) -> list[str]:
    return ["\n".join(["What this cannot tell:", *(f"- {plain(text)}" for text in found)])] if found else []


def _side(side: Side) -> str:
    where = [", ".join(sorted(set(as_text(side.rows[name])) - {""})) for name in ("env_id", "code_rev")]
    return plain(f"{side} ({where[0]}, code {where[1]})")


def _metric(compared: Compared) -> str:
    metric = compared.metric
    names = ["pair"] if not compared.factors[0] else list(compared.factors[0])
    change = "b - a" if by_difference(metric) else "b / a"
    methods = list(dict.fromkeys(found.method.value for found in compared.measured))
    table = [[*names, "a", "b", change, "verdict", *(["measured"] if len(methods) > 1 else []), "marks"]]
    for factors, found in zip(compared.factors, compared.changes, strict=True):
        told = [factors[name] for name in names] if factors else ["the only one"]
        figures = [_figure(value, metric) for value in found.values]
        if found.problem:
            table.append([*told, *figures, "", "", *[""] * (len(methods) > 1), found.problem])
            continue
        verdict = said(compared.verdict(found), metric)
        measured = [found.method.value] if len(methods) > 1 else []
        table.append(
            [*told, *figures, interval(found.interval(), metric), verdict, *measured, ", ".join(found.marks)]
        )
    if not any(row[-1] for row in table[1:]):
        table = [row[:-1] for row in table]
    return "\n".join([_head(compared, methods), "", *aligned(table), *_overall(compared)])


def _head(compared: Compared, methods: Sequence[str]) -> str:
    better = "less" if METRICS[compared.metric].better == "lower" else "more"
    what = f"{compared.metric} ({METRICS[compared.metric].doc}), {better} is better"
    if methods == [Method.EXACT.value]:
        return f"{what}; counted, so without chance; margin {share(compared.margin, compared.metric)}"
    how = f"; both sides {methods[0]}" if len(methods) == 1 else ""
    return f"{what}{how}; margin {share(compared.margin, compared.metric)}, verdicts right together with 95 %"


def share(value: float, metric: str) -> str:
    """A margin in words: a share of the figure, or a number where figures are subtracted."""
    return f"{value:g}" if by_difference(metric) else f"{100 * value:g} %"


def _figure(value: float, metric: str) -> str:
    if math.isnan(value):
        return ""
    return readable(value, METRICS[metric].unit)


def interval(found: Interval, metric: str) -> str:
    """A ratio or difference to the digits that its interval supports."""
    if by_difference(metric):
        return f"{found.value:+.2g} [{found.lo:+.2g}, {found.hi:+.2g}]"
    if math.isnan(found.lo) or found.lo == found.hi:
        return f"{found.value:.4g}"
    return plus_minus(found.value, (found.hi - found.lo) / 2)


def _overall(compared: Compared) -> list[str]:
    mean = compared.overall
    if mean is None or len(compared.measured) < 2:
        return []
    kind = "mean difference" if by_difference(compared.metric) else "geometric mean"
    verdict = said(worse(mean, compared.metric, compared.margin), compared.metric)
    return ["", f"{kind} of {len(compared.measured)} pairs: {interval(mean, compared.metric)}  {verdict}"]


# ---------------------------------------------------------------------------------------------------------- rank


def rankings(found: Sequence[Ranking]) -> str:
    """A table for each ranking, and what it cannot tell."""
    return "\n\n".join(_ranking(own) for own in found)


def _ranking(found: Ranking) -> str:
    title = f"{found.metric} over the real one's" + (f", {found.title}" if found.title else "")
    cases = f"{len(found.groups)} of {found.total} cases" if len(found.groups) != 1 else f"1 of {found.total} cases"
    table = [["rank", "variant", "geometric mean", "against real"]]
    for place in found.places:
        verdict = "" if place.variant == "real" else said(place.verdict, found.metric)
        table.append([_places(place.first, place.last), place.variant, interval(place.mean, found.metric), verdict])
    head = f"{title}: geometric mean over {cases}; margin {share(found.margin, found.metric)}"
    return "\n\n".join(["\n".join([head, "", *aligned(table)]), *_caveats(ranking_caveats(found))])


def _places(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def ranking_caveats(found: Ranking) -> list[str]:
    """What a ranking cannot tell."""
    told = [
        _left_out(found),
        _lacking(found),
        "one case: this is its order, and says nothing of others" if len(found.groups) == 1 else "",
        f"one mean over {' and '.join(found.phases)}: --by phase ranks each apart" if len(found.phases) > 1 else "",
        f"one mean over {', '.join(found.subjects)}, every case with the same weight: --by subject ranks each apart"
        if len(found.subjects) > 1
        else "",
        f"{found.single} figures come from one process: they have no interval" if found.single else "",
        f"marks: {', '.join(f'{mark} {count}' for mark, count in sorted(found.marks.items()))}: measure again on a "
        "quiet machine"
        if found.marks
        else "",
        "a span of ranks: those variants are not told apart by more than the margin"
        if any(place.first != place.last for place in found.places)
        else "",
        *(f"failed: {text}" for text in dict.fromkeys(found.failures)),
    ]
    return [text for text in told if text]


def _left_out(found: Ranking) -> str:
    if not found.left_out:
        return ""
    names = ", ".join(f"{name} (in {count} of {found.total} cases)" for name, count in found.left_out.items())
    return f"left out, since too few cases have it and the others: {names}; --filter variant=… ranks what you name"


def _lacking(found: Ranking) -> str:
    if not found.lacking:
        return ""
    who = sorted({name for names in found.lacking.values() for name in names})
    return f"{len(found.lacking)} of {found.total} cases are not ranked over: {', '.join(who)} lack some of them"


# --------------------------------------------------------------------------------------------------------- files


def table(found: Comparison) -> pd.DataFrame:
    """A row for each pair, plain numbers: what ``--out`` writes."""
    lines = []
    for compared in found.metrics:
        for factors, change in zip(compared.factors, compared.changes, strict=True):
            own = change.interval()
            lines.append(
                {
                    "metric": compared.metric,
                    "unit": METRICS[compared.metric].unit,
                    **factors,
                    "variant_a": change.names[0],
                    "variant_b": change.names[1],
                    "a": change.values[0],
                    "b": change.values[1],
                    "change": "difference" if by_difference(compared.metric) else "ratio",
                    "value": own.value,
                    "lo": own.lo,
                    "hi": own.hi,
                    "verdict": "" if change.problem else said(compared.verdict(change), compared.metric),
                    "margin": compared.margin,
                    "measured": "" if change.problem else change.method.value,
                    "marks": ",".join(change.marks),
                    "problem": change.problem,
                }
            )
    return pd.DataFrame(lines)
