"""How far a run folder is: which tasks of its sweep are done, failed, under way or left, and how long that takes.

The time left of a kind of task is the number left times the seconds that a finished one took: the time in which any
of them ran, over their number. What ran side by side is thereby counted once, and the hours between two runs not at
all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..metrics import METRICS
from ..plan.case import Planned, Task, tasks
from ..plan.sweep import Sweep
from ..schedule.resume import failed, is_done
from ..schedule.run import revision
from ..task.protocol import VERSION

KINDS = ("static", "training", "timing")

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """Tasks of one kind on one machine.

    failed: of those done, with a case that failed; other_code: of those done, measured by other code than is here;
    running: of those left, claimed by a living run; seconds: that the rest will take, None before any was measured.
    """

    name: str
    done: int
    failed: int
    other_code: int
    running: int
    left: int
    seconds: float | None


def status(
    sweep: Sweep, planned: Sequence[Planned], lines: Iterable[Line], held: Collection[str] = ()
) -> dict[str, list[Kind]]:
    """env_id → what is done there of ``planned``, by kind. held: the tasks that living runs have claimed.

    A machine that no line names yet is not there; where there is none at all the key is empty.
    """
    settings = sweep.protocol.of_timing
    wanted = tasks(planned, sweep.protocol.processes, {name: m.task for name, m in METRICS.items()}, settings)
    by_env: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_env[line["env_id"]].append(_short(line))
    return {
        env_id: [_kind(kind, [t for t in wanted if t.kind == kind], by_env[env_id], held) for kind in KINDS]
        for env_id in by_env or [""]
    }


def _short(line: Line) -> Line:
    """What is asked of a line; its samples are not."""
    kept = {name: line[name] for name in ("task_id", "kind", "code_rev", "protocol_version", "started", "wall")}
    return {**kept, "done": is_done(line), "failed": bool(failed(line))}


def _kind(name: str, wanted: Sequence[Task], lines: Sequence[Line], held: Collection[str]) -> Kind:
    own = [line for line in lines if line["kind"] == name and line["done"]]
    ids = {task.id for task in wanted}
    # the newest line of a task counts; what was measured in another way is measured again
    last = {line["task_id"]: line for line in own if line["task_id"] in ids and line["protocol_version"] == VERSION}
    left = len(wanted) - len(last)
    pace = seconds_each([(line["started"], line["wall"]) for line in own if line["wall"] > 0])
    return Kind(
        name=name,
        done=len(last),
        failed=sum(line["failed"] for line in last.values()),
        other_code=sum(task.id in last and last[task.id]["code_rev"] != revision(task) for task in wanted),
        running=sum(task_id in held for task_id in ids - set(last)),
        left=left,
        seconds=0.0 if not left else None if pace is None else left * pace,
    )


def seconds_each(ran: Sequence[tuple[str, float]]) -> float | None:
    """The time in which anything ran over the number of things; ran: the moment of each start, and its seconds."""
    if not ran:
        return None
    spans = sorted((begun := datetime.fromisoformat(started).timestamp(), begun + wall) for started, wall in ran)
    total, until = 0.0, spans[0][0]
    for begun, ended in spans:
        total += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return total / len(ran)
