"""Running a sweep: which tasks are still to be done, in which order, and what to say meanwhile.

Static and training tasks share the cores, a thread each; a timing task has the machine to itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from . import env, protocol
from .case import Planned, Task, tasks
from .launch.local import Worker
from .metrics import METRICS
from .store import Store
from .sweep import Sweep


class Progress(Protocol):
    """What is told while a sweep runs."""

    def start(self, total: int, done: int) -> None: ...
    def begin(self, task: Task) -> None: ...
    def end(self, task: Task, seconds: float, problems: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Summary:
    """What a run did: tasks measured now, tasks found done, cases by status."""

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


def run(
    sweep: Sweep,
    planned: Sequence[Planned],
    store: Store,
    progress: Progress,
    data_root: Path | None = None,
    measure: Callable[[str, protocol.Request], protocol.Reply] | None = None,
) -> Summary:
    """Measure what the store does not hold yet; every finished task is in the store before the next one starts.

    A task is done if a line with the same task, env, code and protocol holds results that are all ok or wrong;
    failures are measured again.
    """
    identity = {
        "env_id": env.env_id(sweep.device),
        "code_rev": env.code_rev(),
        "protocol_version": protocol.VERSION,
    }
    store.add_plan(plan_lines(planned))
    wanted = tasks(planned, sweep.protocol.processes, {name: metric.task for name, metric in METRICS.items()})
    finished = {
        line["task_id"]
        for line in store.tasks()
        if all(line[key] == value for key, value in identity.items())
        and all(result["status"] in ("ok", "wrong") for result in line["results"])
    }
    left = [task for task in wanted if task.id not in finished]
    progress.start(len(wanted), len(wanted) - len(left))
    measure = measure or Worker(store.folder / "logs").measure
    cores = os.cpu_count() or 1
    physical = env.identity("cpu")["cores"]
    failed = 0

    def one(task: Task) -> tuple[Task, dict[str, Any]]:
        threads = physical if task.kind == "timing" else 1
        if task.kind == "timing" and task.cases[0].threads:
            threads = task.cases[0].threads
        root = str(data_root.resolve()) if data_root else None
        request = protocol.Request.of(task, sweep.device, threads, sweep.protocol, root)
        started, begun = datetime.now(UTC), time.perf_counter()
        progress.begin(task)
        reply = measure(task.id, request)
        return task, {
            **identity,
            "task_id": task.id,
            "kind": task.kind,
            "repetition": task.repetition,
            "siblings": sweep.protocol.processes if task.kind == "timing" else 1,
            "started": started.isoformat(timespec="seconds"),
            "wall": round(time.perf_counter() - begun, 3),
            "results": [result.model_dump() for result in reply.results],
        }

    def keep(task: Task, line: dict[str, Any]) -> None:
        nonlocal failed
        store.add_task(line)
        problems = [r["reason"] for r in line["results"] if r["status"] not in ("ok",)]
        failed += bool(problems)
        progress.end(task, line["wall"], problems)

    shared = [task for task in left if task.kind != "timing"]
    # a GPU is measured by one process at a time, whatever it measures
    with ThreadPoolExecutor(max_workers=cores if sweep.device == "cpu" else 1) as pool:
        pending = {pool.submit(one, task) for task in shared}
        try:
            while pending:
                ready, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in ready:
                    keep(*future.result())
        except BaseException:
            for future in pending:
                future.cancel()
            raise
    for task in left:
        if task.kind == "timing":
            keep(*one(task))
    return Summary(measured=len(left), resumed=len(wanted) - len(left), failed=failed)
