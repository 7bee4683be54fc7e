"""How long tasks will take, from what similar ones took; and which of them fit into a budget of time. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..plan.case import CHUNK, Kind, Task
from ..plan.sweep import Protocol

# seconds of a task before any of its kind was measured: interpreter and imports, building, a first guess at the rest
_START, _BUILD = 3.0, 0.1
_STATIC, _TRAINING = 0.7, 30.0

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Pace:
    """Mean seconds of tasks: of the same chunk, else of the same kind and subject, else of the kind."""

    def __init__(self, protocol: Protocol, width: Callable[[Kind], int]) -> None:
        self.protocol, self.width = protocol, width
        self._seen: dict[tuple[str, ...], tuple[int, float]] = {}

    def learn(self, kind: str, subject: str, chunk_id: str, seconds: float) -> None:
        """A task took so long."""
        for key in ((kind,), (kind, subject), (kind, subject, chunk_id)):
            count, total = self._seen.get(key, (0, 0.0))
            self._seen[key] = count + 1, total + seconds

    def learn_from(self, lines: Iterable[Mapping[str, Any]], tasks: Sequence[Task]) -> None:
        """What the store holds of these tasks, in whatever code."""
        subjects = {task.chunk_id: subject_of(task) for task in tasks}
        for line in lines:
            if line["chunk_id"] in subjects and line["wall"]:
                self.learn(line["kind"], subjects[line["chunk_id"]], line["chunk_id"], line["wall"])

    def seconds(self, task: Task) -> float:
        """Of one task."""
        subject = subject_of(task)
        for key in ((task.kind, subject, task.chunk_id), (task.kind, subject), (task.kind,)):
            if key in self._seen:
                count, total = self._seen[key]
                return total / count
        return self._guess(task.kind, len(task.cases))

    def left(self, counts: Mapping[Kind, int]) -> float:
        """Of so many tasks of each kind, as many side by side as the engine takes, for as long as one at least."""
        rounds = {kind: max(1.0, count / self.width(kind)) for kind, count in counts.items() if count}
        return sum(number * self._typical(kind) for kind, number in rounds.items())

    def _typical(self, kind: Kind) -> float:
        count, total = self._seen.get((kind,), (0, 0.0))
        return total / count if count else self._guess(kind, CHUNK)

    def _guess(self, kind: Kind, cases: int) -> float:
        if kind == "timing":
            return _START + self.protocol.budget + _BUILD * cases
        return _STATIC if kind == "static" else _TRAINING

    def total(self, tasks: Collection[Task]) -> float:
        """Of many, as many side by side as the engine takes."""
        if not self._seen:
            counts = Counter([task.kind for task in tasks])
            return sum(count * self._typical(kind) / self.width(kind) for kind, count in counts.items())
        return sum(self.seconds(task) / self.width(task.kind) for task in tasks)


def subject_of(task: Task) -> str:
    """What a task measures, as far as its time goes."""
    return task.cases[-1].subject


def ordered(tasks: Sequence[Task], priority: Mapping[str, int]) -> list[Task]:
    """By kind, as planned; within a kind by the sweep's declared priority (case id → number), baselines first."""
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(task.kind for task in tasks))}

    def key(task: Task) -> tuple[int, int, bool]:
        return kinds[task.kind], -_urgency(task, priority), not all(case.is_baseline for case in task.cases)

    return sorted(tasks, key=key)


def _urgency(task: Task, priority: Mapping[str, int]) -> int:
    return max(priority.get(case.id, 0) for case in task.cases)


def fitting(
    tasks: Sequence[Task], seconds: float, priority: Mapping[str, int], pace: Pace
) -> tuple[list[Task], list[Task]]:
    """Those that fit into ``seconds``, and those that do not, each in the order given.

    What is taken together: all repetitions of a chunk, with the checks without which its times are not published.
    The more urgent first, baselines before what is compared with them; what does not fit makes room for the next.
    """
    checks = {task.cases[0].id: task for task in tasks if task.kind == "static"}
    chunks: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        chunks[task.chunk_id].append(task)
    bundles = [
        [*(checks[case.id] for case in chunk[0].cases if case.id in checks), *chunk]
        if chunk[0].kind == "timing"
        else chunk
        for chunk in chunks.values()
    ]

    def key(bundle: Sequence[Task]) -> tuple[int, bool]:
        return -_urgency(bundle[-1], priority), not all(case.is_baseline for case in bundle[-1].cases)

    taken: set[str] = set()
    for bundle in sorted(bundles, key=key):
        new = [task for task in bundle if task.id not in taken]
        cost = pace.total(new)
        if cost <= seconds:
            seconds -= cost
            taken |= {task.id for task in new}
    return [t for t in tasks if t.id in taken], [t for t in tasks if t.id not in taken]


def parse(text: str) -> float:
    """Seconds of a time such as 90s, 8m, 1h30m; a number alone is seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        found = float(text)
    elif re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        found = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))
    else:
        raise UsageError(f"--time-budget {text!r} is no time: write it as 90s, 8m or 1h30m")
    if not 0 < found < 365 * _UNITS["d"]:
        raise UsageError(f"--time-budget {text!r}: give more than nothing and less than a year")
    return found


def spoken(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
