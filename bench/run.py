"""Running a sweep: which tasks are still to be done, in which order, and what to say meanwhile.

Static and training tasks share the cores, a thread each; a timing task has the machine to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import psutil

from phnn.registry import origin

from . import env, protocol
from .case import Planned, Task, tasks
from .launch.local import Worker
from .metrics import METRICS
from .store import Store
from .sweep import Sweep

_WORKER_MEMORY = 3 * 2**30  # bytes that a static or training task may take: torch, a data set, a net


class Progress(Protocol):
    """What is told while a sweep runs."""

    def start(self, total: int, done: int) -> None: ...
    def begin(self, task: Task) -> None: ...
    def end(self, task: Task, seconds: float, problems: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Summary:
    """What a run did: tasks measured now, tasks found done, and how many of the measured ones failed in a case."""

    measured: int
    resumed: int
    failed: int


def plan_lines(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """Planned cases as lines of the store."""
    return [
        {
            "case": p.case.factors,
            "metrics": sorted(p.metrics),
            "skipped": p.skipped,
            "controlled": p.controlled.factors if p.controlled else None,
        }
        for p in planned
    ]


@dataclass(frozen=True)
class _Runner:
    """One run of a sweep: how a task becomes a line of the store."""

    sweep: Sweep
    store: Store
    progress: Progress
    measure: Callable[[str, protocol.Request], protocol.Reply]
    stop: Callable[[], None]
    identity: Callable[[Task], dict[str, Any]]
    data_root: str | None

    def line_of(self, task: Task) -> tuple[Task, dict[str, Any]]:
        """Measure a task."""
        request = protocol.Request.of(task, self.sweep.device, _threads(task), self.sweep.protocol, self.data_root)
        started, begun = datetime.now(UTC), time.perf_counter()
        self.progress.begin(task)
        reply = self.measure(task.id, request)
        return task, {
            **self.identity(task),
            "task_id": task.id,
            "chunk_id": task.chunk_id,
            "kind": task.kind,
            "repetition": task.repetition,
            "siblings": self.sweep.protocol.processes if task.kind == "timing" else 1,
            "started": started.isoformat(timespec="seconds"),
            "wall": round(time.perf_counter() - begun, 3),
            "results": [result.model_dump() for result in reply.results],
        }

    def keep(self, task: Task, line: dict[str, Any]) -> bool:
        """Store a finished task; True if a case of it failed."""
        self.store.add_task(line)
        problems = [reason for result in line["results"] for reason in _problems(result)]
        self.progress.end(task, line["wall"], problems)
        return bool(problems)

    def side_by_side(self, tasks: Sequence[Task], workers: int) -> int:
        """Tasks that may share the machine; the number that failed."""
        failed = 0
        with ThreadPoolExecutor(max_workers=workers) as pool:
            pending = {pool.submit(self.line_of, task) for task in tasks}
            try:
                while pending:
                    ready, pending = wait(pending, return_when=FIRST_COMPLETED)
                    failed += sum(self.keep(*future.result()) for future in ready)
            except BaseException:
                for future in pending:
                    future.cancel()
                self.stop()
                raise
        return failed

    def one_by_one(self, tasks: Sequence[Task]) -> int:
        """Tasks that need the machine to themselves; the number that failed."""
        return sum(self.keep(*self.line_of(task)) for task in tasks)


def _threads(task: Task) -> int:
    """All physical cores for what is timed, unless its cases ask for a number; one for what shares the machine."""
    if task.kind != "timing":
        return 1
    return task.cases[0].threads or env.identity("cpu")["cores"]


def run(
    sweep: Sweep,
    planned: Sequence[Planned],
    store: Store,
    progress: Progress,
    data_root: Path | None = None,
    measure: Callable[[str, protocol.Request], protocol.Reply] | None = None,
) -> Summary:
    """Measure what the store does not hold yet; every finished task is in the store before the next one starts.

    A task is done if a line with the same task, env, code and protocol holds results that are all ok, wrong or
    unsupported; failures are measured again.
    """
    identifier = env.env_id(sweep.device)

    def identity(task: Task) -> dict[str, Any]:
        return {
            "env_id": identifier,
            "code_rev": env.code_rev(_plugins(task), task.kind == "training"),
            "protocol_version": protocol.VERSION,
        }

    store.add_plan(plan_lines(planned))
    settings = sweep.protocol.model_dump(include={"precision", "budget", "min_block"})
    kinds = {name: metric.task for name, metric in METRICS.items()}
    wanted = tasks(planned, sweep.protocol.processes, kinds, settings)
    finished = {(line["task_id"], *_identity_of(line)) for line in store.tasks() if _is_sound(line)}
    left = [task for task in wanted if (task.id, *_identity_of(identity(task))) not in finished]
    progress.start(len(wanted), len(wanted) - len(left))
    root = str(data_root.resolve()) if data_root else None
    worker = Worker(store.folder / "logs")
    runner = _Runner(sweep, store, progress, measure or worker.measure, worker.stop, identity, root)
    # a GPU serves one process at a time, whatever is measured; elsewhere each may need a few GiB
    free = psutil.virtual_memory().available // _WORKER_MEMORY
    workers = max(1, min(env.identity("cpu")["cores"], free)) if sweep.device == "cpu" else 1
    try:
        failed = runner.side_by_side([task for task in left if task.kind != "timing"], workers)
        worker.stop()  # nothing else runs beside what is timed
        failed += runner.one_by_one([task for task in left if task.kind == "timing"])
    finally:
        worker.stop()
    return Summary(measured=len(left), resumed=len(wanted) - len(left), failed=failed)


def _plugins(task: Task) -> tuple[str, ...]:
    """The top modules of other packages that a task measures: their code is part of what makes its results."""
    modules = {origin(case.subject).module for case in task.cases}
    return tuple(sorted(modules - {"phnn"}))


def _identity_of(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return line["env_id"], line["code_rev"], line["protocol_version"]


def _is_sound(line: Mapping[str, Any]) -> bool:
    return all(
        result["status"] in ("ok", "wrong", "unsupported") and not result.get("failed") for result in line["results"]
    )


def _problems(result: Mapping[str, Any]) -> list[str]:
    """What went wrong with a case, in words."""
    if result["status"] not in ("ok", "unsupported"):
        return [result["reason"]]
    return [f"{metric}: {failure['reason']}" for metric, failure in result["failed"].items()]
