"""Targets of the scheduler: how soon a large sweep is planned, and what running a task costs beside measuring it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from targets import Figure, Target

from bench.launch.local import Local
from bench.machine import env
from bench.plan import expansion, sweep
from bench.schedule import run
from bench.schedule.resume import Place
from bench.stats import log_interval, mean_interval
from bench.store.folder import Store

CASES = 100_000
REPEATS = 7

LARGE = """
schema = 1
name = "large"
title = "a hundred thousand cases"
[[cases]]
subject = "linear"
metrics = ["params", "macs", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion", "ph"]
n = [2, 4, 8]
channels = [{channels}]
batch = [{batches}]
phase = ["infer", "train_step"]
"""

SMALL = """
schema = 1
name = "small"
title = "as little as a task can measure"
[protocol]
processes = 2
budget = 0.01
precision = 0.9
[[cases]]
subject = "linear"
metrics = ["params", "latency"]
[cases.axes]
algebra = ["real", "quaternion"]
channels = [8, 16, 32, 64]
batch = 1
"""


class Silent:
    def start(self, total: int, done: int, seconds: float) -> None: ...
    def begin(self, task: object, attempt: int, hardware: str = "") -> None: ...
    def again(self, task: object, reason: str, hardware: str = "") -> None: ...
    def skip(self, task: object, reason: str, hardware: str = "") -> None: ...
    def end(self, task: object, line: object, seconds: float) -> None: ...


def ratio(values: Sequence[float]) -> Figure:
    found = log_interval(list(values))
    return Figure(found.value, found.lo, found.hi)


def planning() -> Figure:
    """From the text of a sweep to the queue of a run into an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.toml"
        # five rules, two phases: 10 cases for each width and batch
        channels = ", ".join(str(8 * i) for i in range(1, 101))
        path.write_text(LARGE.format(channels=channels, batches=", ".join(map(str, range(1, CASES // 1000 + 1)))))
        options = run.Options(places=(Place(env_id=env.env_id("cpu")),))
        env.code_rev()  # read once a run
        seconds = []
        with Local(Path(folder), "cpu") as engine:
            for _ in range(REPEATS):
                begun = time.perf_counter()
                loaded = sweep.load(path)
                planned = expansion.expand(loaded)
                made = run.plan(loaded, planned, [], engine, options)
                assert made.seconds > 0
                seconds.append(time.perf_counter() - begun)
        found = ratio(seconds)
        return Figure(found.value, found.lo, found.hi, f"{len(planned)} cases, {len(made.jobs)} tasks")


def overhead() -> Figure:
    """Wall time of a run of tiny tasks, less the lives of their processes, per task; one at a time, so that none hide.

    A life is from the call that starts the process to its end, as its line in the store says.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.toml"
        path.write_text(SMALL)
        loaded = sweep.load(path)
        planned = expansion.expand(loaded)
        options = run.Options(places=(Place(env_id=env.env_id("cpu")),))
        found = []
        for number in range(REPEATS):
            with Store(Path(folder) / str(number)) as store, Local(store.folder / "logs", "cpu") as engine:
                engine.width = lambda kind: 1  # type: ignore[method-assign]
                begun = time.perf_counter()
                run.run(loaded, planned, store, Silent(), engine, options)
                wall = time.perf_counter() - begun
                lives = sum(line["wall"] for line in store.tasks())
            found.append((wall - lives) / len(store.tasks()))
        interval = mean_interval(found)
        return Figure(interval.value, interval.lo, interval.hi)


def seconds_of(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


def alternating(ours: Callable[[], float], theirs: Callable[[], float]) -> Figure:
    ours(), theirs()  # the first calls fill the disk cache
    return ratio([ours() / theirs() for _ in range(REPEATS)])


def worker_start() -> Figure:
    """An interpreter that is ready to measure, against one that has imported torch."""
    return alternating(lambda: seconds_of("import bench.task.worker"), lambda: seconds_of("import torch"))


TARGETS = [
    Target("planning 100,000 cases", "s", 2.0, planning),
    Target("scheduling, per task, beside its process", "s", 0.1, overhead),
    Target("a worker's start / import torch", "×", 1.5, worker_start),
]
