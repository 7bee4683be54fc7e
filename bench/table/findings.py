"""What finished tasks found, by case and machine: of each the newest measurement, as little of it as records need."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..machine.watch import marks as watch_marks
from ..plan.case import Case
from .rounds import Rounds, Span


@dataclass(slots=True)
class Done:
    """A finished task."""

    env_id: str
    code_rev: str
    protocol_version: int
    chunk_id: str
    repetition: int
    siblings: int
    started: str

    def is_beside(self, other: Done) -> bool:
        """Whether it is of the same chunk, by the same code."""
        return self.chunk_id == other.chunk_id and self.is_like(other)

    def is_like(self, other: Done) -> bool:
        """Whether it was measured by the same code in the same way."""
        return self.code_rev == other.code_rev and self.protocol_version == other.protocol_version


@dataclass(slots=True)
class Finding:
    """What one task found of one case.

    order: the place of its line, the newest last; part: which of the task's processes it is from; failed: metric →
    status and reason; marks, energy_marks: what happened to the machine while it was timed, and while its energy was
    measured; details: None where a later process of its chunk came, for only the last one's are told; at: of a timing
    that counts, its row in ``Findings.medians``.
    """

    task: Done
    order: int
    part: int
    status: str
    reason: str
    path_built: str
    values: Mapping[str, float]
    unsupported: Mapping[str, str]
    failed: Mapping[str, Mapping[str, str]]
    span: Span
    marks: Sequence[str]
    energy_marks: Sequence[str]
    calls: int
    details: Mapping[str, Any] | None
    at: int = -1

    @property
    def told(self) -> Mapping[str, Any]:
        """The details."""
        return self.details or {}


class Findings:
    """The newest findings of every case on every machine; medians: of the rounds of those that timed, and by halves.

    Only the newest (code, protocol) of a case on a machine counts, and chunks are never mixed: what was measured
    beside other cases, or cut short, is another measurement.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self.rounds = Rounds()
        self._found: dict[str, dict[tuple[str, str], list[Finding]]] = defaultdict(dict)
        self._beside: dict[int, list[tuple[str, Finding]]] = {}  # timings by line, each with its case
        for order, line in enumerate(lines):
            self._add(order, line)
        timed: list[Finding] = []
        for of_case in self._found.values():
            for key, findings in list(of_case.items()):
                of_case[key] = newest = _newest(findings)
                timed += [f for f in newest if f.span[1]]
        for place, finding in enumerate(timed):
            finding.at = place
        self.medians = self.rounds.medians([f.span for f in timed])

    def of(self, case_id: str, env_id: str | None, kind: str) -> list[Finding]:
        """The repetitions of the newest chunk that is complete, oldest first."""
        return self._found.get(case_id, {}).get((env_id or "", kind), [])

    def beside(self, timing: Finding, case_id: str) -> Finding | None:
        """What the process that timed one case found of another; else how that one failed in the same task."""
        found = [f for of, f in self._beside[timing.order] if of == case_id]
        return next((f for f in found if f.part == timing.part), None) or next(
            (f for f in found if f.status != "ok"), None
        )

    def forget(self, case_id: str, env_id: str | None) -> None:
        """Let go of what only the rows of this case are made of: they are made."""
        for (where, _), findings in self._found.get(case_id, {}).items():
            for finding in findings if where == (env_id or "") else ():
                finding.details, finding.values = None, {}

    def envs_of(self, case_id: str) -> list[str]:
        """Where a case was measured, in the order in which that began."""
        return list(dict.fromkeys(env_id for env_id, _ in self._found.get(case_id, ())))

    def _add(self, order: int, line: Mapping[str, Any]) -> None:
        task = Done(
            line["env_id"], line["code_rev"], line["protocol_version"], line["chunk_id"], line["repetition"],
            line["siblings"], line["started"],
        )  # fmt: skip
        kind, watched = line["kind"], None
        key = task.env_id, kind
        marks: tuple[str, ...] = ()
        beside: list[tuple[str, Finding]] = []
        for result in line["results"]:
            case_id, details = result["case_id"], result["details"]
            if (watch := details.get("watch")) != watched:  # mostly the same of all cases of a task
                watched, marks = watch, _marks(watch or {})
            span = self.rounds.add(result["seconds"], details.get("placements", ()))
            finding = Finding(
                task, order, result.get("part", 0), result["status"], result["reason"], result["path_built"],
                result["values"], result["unsupported"], result.get("failed", {}), span,
                marks, _marks(details["watch_energy"]) if "watch_energy" in details else (),
                details.get("calls_per_block", 1), details,
            )  # fmt: skip
            beside.append((case_id, finding))
            pile = self._found[case_id].setdefault(key, [])
            if pile and pile[-1].task.is_beside(task) and finding.status != "skipped":
                pile[-1].details = None
            pile.append(finding)
        if kind == "timing":
            self._beside[order] = beside


def _marks(watch: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(watch_marks(watch))


def _newest(findings: list[Finding]) -> list[Finding]:
    """What counts of one case on one machine. That there was no time for it replaces nothing that was measured."""
    measured = [f for f in findings if f.status != "skipped"]
    return (_newest_of(measured) if measured else []) or _newest_of(findings)


def _newest_of(findings: list[Finding]) -> list[Finding]:
    """The repetitions of the chunk that was touched last, of those that are complete; a task run again replaces."""
    last = findings[-1].task
    if len({f.task.repetition for f in findings}) == len(findings) and all(f.task.is_beside(last) for f in findings):
        return findings if _is_complete(findings) else []  # nothing was measured twice, as is the rule
    chunks: dict[str, dict[int, Finding]] = {}
    for finding in findings:
        if finding.task.is_like(last):
            chunk = chunks.pop(finding.task.chunk_id, {})  # taken out and put in again, so that it stands last
            chunks[finding.task.chunk_id] = chunk | {finding.task.repetition: finding}
    complete = [chunk for chunk in chunks.values() if _is_complete(chunk.values())]
    return sorted(complete[-1].values(), key=lambda f: f.order) if complete else []


def _is_complete(chunk: Collection[Finding]) -> bool:
    # as many as were asked for when they were measured: asking for more later takes nothing back
    return len(chunk) >= min(f.task.siblings for f in chunk)


def baselines(cases: Iterable[Case], findings: Findings, env_id: str | None) -> dict[str, str]:
    """Group → its real case; of several (memory formats) the one that was fastest there, the harder to beat."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.is_baseline:
            found[case.group_id].append(case)

    def seconds(case: Case) -> float:
        own = [findings.medians[f.at, 0] for f in findings.of(case.id, env_id, "timing") if f.span[1]]
        return statistics.median(own) if own else float("inf")

    return {group: min(members, key=seconds).id for group, members in found.items()}
