"""What of a plan is still to be measured, given the lines that a store holds. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plan.case import Task
from ..task.protocol import FAILED, VERSION, Result

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where tasks are measured: on machines of one env, or wherever a kind of hardware is (env_id None)."""

    hardware: str = ""
    env_id: str | None = None

    @property
    def name(self) -> str:
        """What tells it from other places: claims are for a task there."""
        return self.hardware or self.env_id or ""

    def holds(self, line: Line) -> bool:
        """Whether the line was measured here."""
        return line.get("hardware", "") == self.hardware and self.env_id in (None, line["env_id"])


@dataclass(frozen=True)
class Policy:
    """Which finished tasks are measured again.

    retry_failed: those in which a case failed; fresh: all; accept_older: not those that other code measured, where
    one revision of it measured all repetitions.
    """

    retry_failed: bool = False
    fresh: bool = False
    accept_older: bool = False


def failed(line: Line) -> list[Mapping[str, Any]]:
    """The results of a line that failed, in all or in a metric; not what nothing can mend here, nor wrong answers."""
    return [result for result in line["results"] if result["status"] in FAILED or result.get("failed")]


def is_bad(line: Line) -> bool:
    """Whether a case of it failed, or gave a wrong answer."""
    return bool(failed(line)) or any(result["status"] == "wrong" for result in line["results"])


def is_done(line: Line) -> bool:
    """Whether a line says how its task ended; what did not fit into a budget is still to be measured."""
    return all(result["status"] != "skipped" for result in line["results"])


@dataclass(frozen=True)
class Left:
    """The tasks that are to be measured, in their order.

    failed: how many of the others had a case that failed; told: ids of those of which the store says something
    already, if only that there was no time for them.
    """

    tasks: list[Task]
    failed: int = 0
    told: frozenset[str] = frozenset()


def left(
    wanted: Sequence[Task], lines: Sequence[Line], revision: Callable[[Task], str], place: Place, policy: Policy
) -> Left:
    """What is still to be measured. revision: the code that measures a task, as a hash of it."""
    if not lines:
        return Left(list(wanted))
    last: dict[tuple[str, str], str] = {}
    for line in _of(lines, place):
        key = line["task_id"], line["code_rev"]
        if is_done(line):
            last[key] = "failed" if failed(line) else "done"  # the last counts: what failed may have been mended
        else:
            last.setdefault(key, "open")  # a lack of time undoes nothing
    ours = [(task, last.get((task.id, revision(task)))) for task in wanted]
    told = frozenset(task.id for task, state in ours if state is not None)
    if policy.fresh:
        return Left(list(wanted), told=told)
    counting = ("done",) if policy.retry_failed else ("done", "failed")
    open_ = [task for task, state in ours if state not in counting]
    given_up = sum(state == "failed" and not policy.retry_failed for _, state in ours)
    if not policy.accept_older or not open_:
        return Left(open_, given_up, told)
    by_revision: dict[str, set[str]] = defaultdict(set)
    for (task_id, code_rev), state in last.items():
        if state in counting:
            by_revision[code_rev].add(task_id)
    siblings: dict[str, set[str]] = defaultdict(set)
    for task in wanted:
        siblings[task.chunk_id].add(task.id)
    older = {chunk for chunk, ids in siblings.items() if any(ids <= have for have in by_revision.values())}
    return Left([task for task in open_ if task.chunk_id not in older], given_up, told)


@dataclass(frozen=True)
class Known:
    """Cases that took their process in a repetition of a chunk, each with its result, and where that was."""

    env_id: str
    results: dict[str, Result]


def culprits(lines: Iterable[Line], place: Place) -> dict[tuple[str, str], Known]:
    """What the store holds of them, by (chunk, code)."""
    found: dict[tuple[str, str], Known] = {}
    for line in _of(lines, place):
        for result in failed(line) if line["kind"] == "timing" else ():
            if result["status"] in FAILED and result["status"] != "error":
                known = found.setdefault((line["chunk_id"], line["code_rev"]), Known(line["env_id"], {}))
                known.results[result["case_id"]] = Result.model_validate(result)
    return found


def measured_on(lines: Sequence[Line], place: Place) -> str | None:
    """The machine on which a place's tasks were measured last; None if none was."""
    return next((line["env_id"] for line in reversed(lines) if line["wall"] and place.holds(line)), None)


def _of(lines: Iterable[Line], place: Place) -> Iterable[Line]:
    return (line for line in lines if line["protocol_version"] == VERSION and place.holds(line))
