"""From finished tasks to records: one tidy row a metric of a case, in SI units, failures included.

Records are derived, never measured: deleting a table and deriving it again gives the same rows. A case whose timing
tasks are not all in yet has no latency row; a case that failed has a row that says why for every metric wanted of it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .case import Case
from .metrics import METRICS
from .roofs import Roofs, arithmetic_of, roof
from .stats import (
    MARGIN,
    Verdict,
    percentile,
    process_interval,
    process_verdict,
    verdict,
    verdict_level,
)
from .store import SCHEMA
from .watch import marks as watch_marks

# the shape axes that have a column each; all of them are in ``shape``
SHAPE_COLUMNS = ("batch", "channels", "out_channels", "size", "kernel_size", "width_scale")

COLUMNS = (
    "subject", "twin", "kind", "variant", "algebra", "n", "shape", *SHAPE_COLUMNS, "seed", "phase", "timer",
    "compile", "dtype", "precision", "path", "rank", "threads", "memory_format", "control", "data", "recipe",
    "metric", "unit", "value", "lo", "hi", "samples", "processes", "status", "reason", "marks", "path_built",
    "baseline_id", "details", "case_id", "group_id", "env_id", "code_rev", "schema", "started",
)  # fmt: skip

NOISY = 0.10  # an interval wider than this on either side earns the mark
DRIFTING = 0.05  # so does a second half of the rounds that differs by more than this from the first
PERCENTILES = (0.5, 0.9, 0.99)  # of a latency, where single calls were timed and there are samples enough


@dataclass(frozen=True)
class _Finding:
    """What one task found of one case."""

    task: Mapping[str, Any]
    result: Mapping[str, Any]


@dataclass(frozen=True)
class _Group:
    """What a case is compared with, and in how many comparisons (its verdicts answer for all of them)."""

    baseline_id: str | None
    among: int


def derive(
    plan: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], roofs: Roofs | None = None
) -> list[dict[str, Any]]:
    """All records of a run folder, in the order of the plan. roofs: of the machine, as far as they were measured.

    For each case the newest measurement counts; tasks of other code revisions or machines stay in the store.
    """
    planned: dict[str, dict[str, Any]] = {}
    case: Case
    for line in plan:
        case = Case.from_factors(line["case"])
        entry = planned.setdefault(case.id, {"case": case, "metrics": set()})
        entry["metrics"] |= set(line["metrics"])
        entry |= {"skipped": line["skipped"], "controlled": line.get("controlled")}
    findings = _newest(lines)
    baselines = _baselines([entry["case"] for entry in planned.values()], findings)
    compared = _compared(planned.values())
    records = []
    for entry in planned.values():
        case = entry["case"]
        common = {
            **_factors(case, entry["controlled"]),
            "baseline_id": baselines.get(case.group_id),
            "schema": SCHEMA,
        }
        for metric in (name for name in METRICS if name in entry["metrics"]):
            of_group = _Group(baselines.get(case.group_id), compared[case.group_id])
            row = _row(metric, case, entry["skipped"], findings, of_group, roofs)
            if row is not None:
                records.append({column: {"details": "{}", **common, **row}.get(column) for column in COLUMNS})
    return records


def _newest(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[_Finding]]:
    """Findings by (case id, kind of task): the repetitions of the newest chunk that is complete.

    Only the newest (env, code, protocol) of a case counts, and chunks are never mixed: what was measured beside
    other cases, or cut short, is another measurement.
    """
    found: dict[tuple[str, str], list[_Finding]] = defaultdict(list)
    for line in lines:
        for result in line["results"]:
            found[result["case_id"], line["kind"]].append(_Finding(line, result))
    newest = {}
    for key, findings in found.items():
        last = _revision(findings[-1].task)
        chunks: dict[str, dict[int, _Finding]] = {}
        for f in findings:
            if _revision(f.task) == last:
                # taken out and put in again, so that the chunk that was touched last stands last
                chunk = chunks.pop(f.task["chunk_id"], {})
                chunks[f.task["chunk_id"]] = chunk | {f.task["repetition"]: f}  # a task run again replaces
        complete = [chunk for chunk in chunks.values() if _is_complete(chunk.values())]
        if complete:
            newest[key] = list(complete[-1].values())
    return newest


def _is_complete(chunk: Collection[_Finding]) -> bool:
    # as many as were asked for when they were measured: asking for more later takes nothing back
    return len(chunk) >= min(f.task["siblings"] for f in chunk)


def _revision(task: Mapping[str, Any]) -> tuple[Any, ...]:
    return task["env_id"], task["code_rev"], task["protocol_version"]


def _baselines(cases: Sequence[Case], findings: Mapping[tuple[str, str], Sequence[_Finding]]) -> dict[str, str]:
    """Group → its real case; of several (memory formats) the one that was fastest, the harder to beat."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.is_baseline:
            found[case.group_id].append(case)

    def seconds(case: Case) -> float:
        own = [f.result["seconds"] for f in findings.get((case.id, "timing"), []) if f.result["seconds"]]
        return statistics.median(map(statistics.median, own)) if own else math.inf

    return {group: min(members, key=seconds).id for group, members in found.items()}


def _compared(planned: Collection[Mapping[str, Any]]) -> dict[str, int]:
    """Group → how many of its cases the plan compares with the baseline; their verdicts are to hold together.

    What the plan asks for, not what is in: a verdict does not change because another case failed or is still to come.
    """
    wanted = Counter(
        entry["case"].group_id
        for entry in planned
        if "latency_ratio" in entry["metrics"] and entry["skipped"] is None
    )
    return {entry["case"].group_id: max(1, wanted[entry["case"].group_id] - 1) for entry in planned}


def _factors(case: Case, controlled: Mapping[str, Any] | None) -> dict[str, Any]:
    shape = case.axes
    return {
        **case.factors,
        "twin": case.twin,
        "shape": json.dumps(shape, sort_keys=True),
        "recipe": json.dumps(dict(case.recipe), sort_keys=True),
        **{name: shape.get(name) for name in SHAPE_COLUMNS},
        "variant": variant(case, Case.from_factors(controlled) if controlled else None),
        "case_id": case.id,
        "group_id": case.group_id,
    }


def variant(case: Case, controlled: Case | None = None) -> str:
    """What a figure calls a case: real, quaternion, ph n=4, slim real (ph n=4), the subject that has a twin."""
    if controlled is not None:
        return f"slim real ({variant(controlled)})"
    rank = f" rank={case.rank}" if case.rank else ""
    over = f"ph n={case.n}{rank}" if case.algebra == "ph" else case.algebra
    if not case.twin:
        return over
    options = [f"{key}={value}" for key, value in case.options]
    return " ".join([case.subject, *options, *([] if case.algebra == "none" else [over])])


def _row(
    metric: str,
    case: Case,
    skipped: str | None,
    findings: Mapping[tuple[str, str], Sequence[_Finding]],
    group: _Group,
    roofs: Roofs | None,
) -> dict[str, Any] | None:
    """The row of one metric; None while its tasks are not in."""
    base: dict[str, Any] = {
        "metric": metric,
        "unit": METRICS[metric].unit,
        "marks": "",
        "reason": "",
        "details": "{}",
    }
    if skipped is not None:
        return {**base, "status": "skipped", "reason": skipped}
    kind = "training" if case.data != "none" else METRICS[metric].task
    own = findings.get((case.id, kind), [])
    if not own:
        return None
    last = own[-1]
    base |= {
        "env_id": last.task["env_id"],
        "code_rev": last.task["code_rev"],
        "started": own[0].task["started"],
        "path_built": last.result["path_built"],
        "processes": len(own),
        "details": json.dumps(last.result["details"], sort_keys=True),
    }
    if failed := next((f for f in own if f.result["status"] not in ("ok", "wrong")), None):
        return {**base, "status": failed.result["status"], "reason": failed.result["reason"]}
    static = findings.get((case.id, "static"), [])
    wrong = _wrong(static)
    if kind == "timing":
        if wrong:  # a fast wrong answer has no speed
            return {**base, "status": "wrong", "reason": f"its time is not published: {wrong}"}
        if unchecked := _unchecked(static):
            return {**base, **unchecked, "reason": f"its time is not published, unchecked: {unchecked['reason']}"}
        if metric == "efficiency":
            timed = _efficiency(case, own, static, roofs)
        elif metric == "energy":
            timed = _energy(own)
        else:
            timed = _timed(metric, case, own, findings, group)
        if timed is None:
            return None
        details = {**last.result["details"], **timed.pop("details", {})}
        marks = ",".join(filter(None, [timed.pop("marks", ""), *_machine_marks(own)]))
        return {**base, **timed, "marks": marks, "details": json.dumps(details, sort_keys=True)}
    if reason := last.result["unsupported"].get(metric):
        return {**base, "status": "unsupported", "reason": reason}
    status = {"status": "wrong", "reason": wrong} if wrong and metric == "numeric_error" else {"status": "ok"}
    marks = "contended" if metric == "train_time" else ""  # trainings share the machine with each other
    return {**base, **status, "value": last.result["values"][metric], "samples": 1, "marks": marks}


def missing(plan: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> int:
    """How many rows the plan asks for that no finished task has given yet."""
    wanted = {(Case.from_factors(line["case"]).id, metric) for line in plan for metric in line["metrics"]}
    return len(wanted - {(record["case_id"], record["metric"]) for record in records})


def _wrong(static: Sequence[_Finding]) -> str:
    return next((f.result["reason"] for f in static if f.result["status"] == "wrong"), "")


def _unchecked(static: Sequence[_Finding]) -> dict[str, str]:
    """Why the answer of a case could not be checked; empty if it was."""
    failed = (f.result for f in static if f.result["status"] not in ("ok", "wrong"))
    return next(({"status": result["status"], "reason": result["reason"]} for result in failed), {})


def _timed(
    metric: str,
    case: Case,
    own: Sequence[_Finding],
    findings: Mapping[tuple[str, str], Sequence[_Finding]],
    group: _Group,
) -> dict[str, Any] | None:
    """latency, compile_time or latency_ratio of a case over its processes."""
    if metric == "compile_time":
        return _interval_row([[f.result["values"]["compile_time"]] for f in own], {})
    if metric == "latency":
        return _interval_row([f.result["seconds"] for f in own], _percentiles(own))
    if group.baseline_id is None:
        beside = f"subject {case.twin!r} with " if case.twin else ""
        return {"status": "unsupported", "reason": f"the group has no baseline: add {beside}algebra 'real'"}
    checks = findings.get((group.baseline_id, "static"), [])
    if wrong := _wrong(checks):
        return {"status": "wrong", "reason": f"the baseline: {wrong}"}
    if unchecked := _unchecked(checks):
        return {**unchecked, "reason": f"the baseline, unchecked: {unchecked['reason']}"}
    if case.id == group.baseline_id:
        return {
            "status": "ok",
            "value": 1.0,
            "lo": 1.0,
            "hi": 1.0,
            "samples": sum(len(f.result["seconds"]) for f in own),
        }
    ratios = []
    for finding in own:
        baseline = _beside(finding, group.baseline_id)
        if baseline is None:  # timed before the sweep had a baseline: the next run times it again
            return None
        if baseline["status"] != "ok":
            return {"status": baseline["status"], "reason": f"the baseline: {baseline['reason']}"}
        pairs = zip(finding.result["seconds"], baseline["seconds"], strict=True)
        ratios.append([mine / theirs for mine, theirs in pairs])
    found = process_verdict([statistics.median(rounds) for rounds in ratios], MARGIN, group.among)
    said = {"verdict": found, "margin": MARGIN, "compared": group.among, "verdict_level": verdict_level(group.among)}
    return _interval_row(ratios, said)


def _beside(finding: _Finding, case_id: str) -> Mapping[str, Any] | None:
    """The result of a case in the very process that made a finding; where it failed, in any process of the task."""
    results = [result for result in finding.task["results"] if result["case_id"] == case_id]
    part = finding.result.get("part", 0)
    same = next((result for result in results if result.get("part", 0) == part), None)
    return same or next((result for result in results if result["status"] != "ok"), None)


def _efficiency(
    case: Case, own: Sequence[_Finding], static: Sequence[_Finding], roofs: Roofs | None
) -> dict[str, Any] | None:
    """The share of the roof that a case reaches: the least seconds that its call could take, over its latency."""
    if not static:
        return None
    counted = static[-1].result
    if counted["status"] not in ("ok", "wrong"):
        return {"status": counted["status"], "reason": f"its operations were not counted: {counted['reason']}"}
    traffic = counted["details"].get("traffic")
    if traffic is None:  # counted before efficiency was asked for: the next run counts it again
        return None
    env_id = own[-1].task["env_id"]
    if roofs is None or roofs.env_id != env_id:
        whose = "there are none" if roofs is None else f"those at hand are of {roofs.env_id}"
        reason = f"no roofs of {env_id}: {whose}; bench env --calibrate, then bench run again"
        return {"status": "unsupported", "reason": reason}
    above = roof(
        roofs,
        flop=traffic["flop"],
        moved=traffic["bytes"],
        arithmetic=arithmetic_of(case.factors),
        threads=own[-1].result["details"]["threads"],
        cold=case.timer.endswith("_cold"),
    )
    if isinstance(above, str):
        return {"status": "unsupported", "reason": above}
    taken = _interval_row([f.result["seconds"] for f in own], {"roof": asdict(above)})
    shares = {end: above.seconds / taken[other] for end, other in (("value", "value"), ("lo", "hi"), ("hi", "lo"))}
    return {**taken, **shares}


def _energy(own: Sequence[_Finding]) -> dict[str, Any]:
    """Joules of a call over the processes, or why a process found none."""
    if reason := next((r for f in own if (r := f.result["unsupported"].get("energy"))), None):
        return {"status": "unsupported", "reason": reason}
    return _interval_row([[f.result["values"]["energy"]] for f in own], {})


def _interval_row(rounds: Sequence[Sequence[float]], details: Mapping[str, Any]) -> dict[str, Any]:
    """The row of what was measured in the ``rounds`` of each process."""
    interval = process_interval([statistics.median(own) for own in rounds])
    wide = interval.relative_half_width > NOISY or math.isnan(interval.lo)
    marks = {"noisy": wide, "drifting": _drifts(rounds)}
    return {
        "status": "ok",
        "value": interval.value,
        "lo": interval.lo,
        "hi": interval.hi,
        "samples": sum(map(len, rounds)),
        "marks": ",".join(mark for mark, earned in marks.items() if earned),
        "details": details,
    }


def _machine_marks(own: Sequence[_Finding]) -> list[str]:
    """What happened to the machine in any of the processes."""
    return sorted({mark for f in own for mark in watch_marks(f.result["details"].get("watch", {}))})


def _drifts(rounds: Sequence[Sequence[float]]) -> bool:
    """Whether the second half of a process's rounds differs from its first, in the same way in all processes."""
    halves = [_second_over_first(own) for own in rounds if len(own) > 1]
    return len(halves) > 1 and verdict(process_interval(halves), DRIFTING) in (Verdict.FASTER, Verdict.SLOWER)


def _second_over_first(own: Sequence[float]) -> float:
    middle = len(own) // 2
    return statistics.median(own[middle:]) / statistics.median(own[:middle])


def _percentiles(own: Sequence[_Finding]) -> dict[str, Any]:
    """Percentiles of single calls over all processes, each a number or null, and why it is null."""
    names = [f"p{100 * share:g}" for share in PERCENTILES]
    calls = max(f.result["details"].get("calls_per_block", 1) for f in own)
    if calls > 1:  # a mean of calls has their mean, not their percentiles
        return {"percentiles": dict.fromkeys(names), "percentiles_lack": f"a sample is the mean of {calls} calls"}
    samples = [second for f in own for second in f.result["seconds"]]
    found = {name: percentile(samples, share) for name, share in zip(names, PERCENTILES, strict=True)}
    lacking = "; ".join(p.reason for p in found.values() if p.reason)
    values = {name: p.value for name, p in found.items()}
    return {"percentiles": values, **({"percentiles_lack": lacking} if lacking else {})}
