"""From finished tasks to records: one tidy row a metric of a case, in SI units, failures included.

Records are derived, never measured: deleting a table and deriving it again gives the same rows. A case whose timing
tasks are not all in yet has no latency row; a case that failed has a row that says why for every metric wanted of it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .case import Case
from .metrics import METRICS
from .stats import Interval, log_interval
from .store import SCHEMA

# the shape axes that have a column each; all of them are in ``shape``
SHAPE_COLUMNS = ("batch", "channels", "out_channels", "size", "kernel_size", "width_scale")

COLUMNS = (
    "subject", "twin", "kind", "variant", "algebra", "n", "shape", *SHAPE_COLUMNS, "seed", "phase", "timer",
    "compile", "dtype", "precision", "path", "rank", "threads", "memory_format", "control", "data", "recipe",
    "metric", "unit", "value", "lo", "hi", "samples", "processes", "status", "reason", "marks", "path_built",
    "baseline_id", "details", "case_id", "group_id", "env_id", "code_rev", "schema", "started",
)  # fmt: skip

NOISY = 0.10  # an interval wider than this on either side earns the mark


@dataclass(frozen=True)
class _Finding:
    """What one task found of one case."""

    task: Mapping[str, Any]
    result: Mapping[str, Any]


def derive(plan: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All records of a run folder, in the order of the plan.

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
    records = []
    for entry in planned.values():
        case = entry["case"]
        common = {
            **_factors(case, entry["controlled"]),
            "baseline_id": baselines.get(case.group_id),
            "schema": SCHEMA,
        }
        for metric in (name for name in METRICS if name in entry["metrics"]):
            row = _row(metric, case, entry["skipped"], findings, baselines.get(case.group_id))
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
    baseline_id: str | None,
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
        timed = _timed(metric, case, own, findings, baseline_id)
        return None if timed is None else {**base, **timed}
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
    baseline_id: str | None,
) -> dict[str, Any] | None:
    """latency, compile_time or latency_ratio of a case over its processes."""
    if metric == "compile_time":
        return _interval_row(log_interval([f.result["values"]["compile_time"] for f in own]), own) | {
            "samples": len(own)
        }
    if metric == "latency":
        per_process = [statistics.median(f.result["seconds"]) for f in own]
        return _interval_row(log_interval(per_process), own)
    if baseline_id is None:
        beside = f"subject {case.twin!r} with " if case.twin else ""
        return {"status": "unsupported", "reason": f"the group has no baseline: add {beside}algebra 'real'"}
    checks = findings.get((baseline_id, "static"), [])
    if wrong := _wrong(checks):
        return {"status": "wrong", "reason": f"the baseline: {wrong}"}
    if unchecked := _unchecked(checks):
        return {**unchecked, "reason": f"the baseline, unchecked: {unchecked['reason']}"}
    if case.id == baseline_id:
        return {"status": "ok", "value": 1.0, "lo": 1.0, "hi": 1.0, "samples": sum(_counts(own))}
    ratios = []
    for finding in own:
        baseline = next((r for r in finding.task["results"] if r["case_id"] == baseline_id), None)
        if baseline is None:  # timed before the sweep had a baseline: the next run times it again
            return None
        if baseline["status"] != "ok":
            return {"status": baseline["status"], "reason": f"the baseline: {baseline['reason']}"}
        pairs = zip(finding.result["seconds"], baseline["seconds"], strict=True)
        ratios.append(statistics.median(mine / theirs for mine, theirs in pairs))
    return _interval_row(log_interval(ratios), own)


def _interval_row(interval: Interval, own: Sequence[_Finding]) -> dict[str, Any]:
    wide = interval.relative_half_width > NOISY or math.isnan(interval.lo)
    return {
        "status": "ok",
        "value": interval.value,
        "lo": interval.lo,
        "hi": interval.hi,
        "samples": sum(_counts(own)),
        "marks": "noisy" if wide else "",
    }


def _counts(own: Sequence[_Finding]) -> list[int]:
    return [len(f.result["seconds"]) for f in own]
