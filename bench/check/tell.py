"""What a person reads at the end of the check, and what a program reads."""

from __future__ import annotations

import math
from typing import Any

from ..stats import MARGIN, Interval
from .judge import RESOLVED, Finding
from .session import Report

SCHEMA = 1


def page(report: Report) -> str:
    """All figures with their intervals, then the verdict."""
    protocol = report.plan.protocol
    lines = [
        f"bench check on {report.device}, {report.threads} threads: {protocol.processes} processes, "
        f"{len(report.idle)} pairs of {_span(report)}, "
        f"each until ±{protocol.precision:.0%} or {protocol.budget:g} s{_anew(protocol.placements)}; "
        f"verdicts with a margin of {MARGIN:.0%}",
    ]
    for title, found in report.sections.items():
        lines += ["", title, *(line for finding in found for line in _lines(finding))]
    lines += ["", "Smallest slowdown called SLOWER in 95 % of comparisons"]
    most = max(report.by_processes)
    told = [(name, most, found) for name, found in report.by_duration.items()]
    told += [("all", count, found) for count, found in report.by_processes.items()]
    lines += [f"  {name:<15} in {count:>2} processes  {_percent(found)}" for name, count, found in told]
    if report.notes:
        lines += ["", *(f"note: {note}" for note in report.notes)]
    return "\n".join([*lines, "", *verdict(report), f"({report.seconds:.0f} s)"])


def _anew(placements: int) -> str:
    return f" of {placements} placements or more" if placements > 1 else ""


def verdict(report: Report) -> list[str]:
    """What this machine can be trusted with."""
    found = report.resolution
    if math.isinf(found.value):
        resolves = "No difference is told apart reliably here, however large."
    else:
        resolves = (
            f"Differences of {_percent(found)} and more are told apart here, in {RESOLVED:.0%} of comparisons with "
            f"{report.plan.protocol.processes} processes; of smaller ones, only some."
        )
    if not report.missed:
        undecided = len(report.open)
        left = f" ({undecided} of them too close to call with so few comparisons)" if undecided else ""
        return [f"PASS: no bar is missed{left}. {resolves}"]
    return [
        f"FAIL: {'; '.join(finding.name for finding in report.missed)}. {resolves}",
        *dict.fromkeys(f"  {finding.remedy}" for finding in report.missed if finding.remedy),
    ]


def _lines(finding: Finding) -> list[str]:
    figure, bar = finding.figure, finding.bar
    if finding.unit == "share":
        shown = f"{figure.value:.2%} [{figure.lo:.2%}, {figure.hi:.2%}], bar {bar:.0%}"
    else:
        shown = f"{figure.value:.3g} [{figure.lo:.3g}, {figure.hi:.3g}] {finding.unit}, bar {bar:g}"
    lines = [f"  {finding.state:<10} {finding.name}: {shown}"]
    return [*lines, f"             {finding.remark}"] if finding.remark else lines


def _percent(found: Interval) -> str:
    """A difference with its interval; its upper end may be open."""
    if math.isinf(found.value):
        return "none"
    end = "?" if math.isinf(found.hi) else f"{found.hi:.1%}"
    return f"{found.value:.1%} [{found.lo:.1%}, {end}]"


def _span(report: Report) -> str:
    seconds = [comparison.timed[0].seconds for comparison in report.idle]
    return f"{min(seconds) * 1e3:.2g} to {max(seconds) * 1e3:.2g} ms"


def document(report: Report, environment: dict[str, Any]) -> dict[str, Any]:
    """Everything, raw ratios included; what has no finite value is null."""
    return {
        "schema": SCHEMA,
        "passed": not report.missed,
        "environment": environment,
        "protocol": report.plan.protocol.model_dump(),
        "device": report.device,
        "threads": report.threads,
        "seconds": report.seconds,
        "verdict": " ".join(verdict(report)),
        "resolution": _ends(report.resolution),
        "resolution_by_processes": {str(count): _ends(found) for count, found in report.by_processes.items()},
        "resolution_by_duration": {name: _ends(found) for name, found in report.by_duration.items()},
        "findings": [
            {
                "section": title,
                "name": finding.name,
                "unit": finding.unit,
                **_ends(finding.figure),
                "bar": finding.bar,
                "state": finding.state,
                "remark": finding.remark,
            }
            for title, found in report.sections.items()
            for finding in found
        ],
        "notes": report.notes,
        "comparisons": [
            {
                "load": load,
                "pair": comparison.pair.model_dump(),
                "truth": comparison.pair.truth,
                **_ends(comparison.ratio),
                "verdict": comparison.verdict.value,
                "processes": [timed.model_dump() for timed in comparison.timed],
            }
            for load, found in ((False, report.idle), (True, report.loaded))
            for comparison in found
        ],
    }


def _ends(found: Interval) -> dict[str, float | None]:
    ends = {"value": found.value, "lo": found.lo, "hi": found.hi}
    return {name: value if math.isfinite(value) else None for name, value in ends.items()}
