"""Targets of measuring itself: what is called different and what is not, how steady a ratio is, what the harness costs.

The questions and the verdicts are those of ``bench check``; their number is that of the targets, and the processes are
as many as a sweep has by default.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import psutil
from scipy import stats
from targets import Figure, Target

from bench.check import judge, launch, plan, session
from bench.check.judge import Comparison, Finding
from bench.check.messages import Order, Pair
from bench.launch import local
from bench.launch.engine import Order as TaskOrder
from bench.launch.processes import Worker
from bench.machine import env
from bench.measure.latency import overhead_share
from bench.metrics import METRICS
from bench.plan import expansion, sweep
from bench.plan.case import Task, tasks
from bench.plan.sweep import Protocol
from bench.stats import LEVEL, Interval, log_interval, mean_interval
from bench.task.protocol import Request

DEVICE = "cpu"
SWEEP = Path(__file__).resolve().parents[2] / "bench" / "sweeps" / "quick.toml"
# half the processes of the check and twice the time in each: the error of a slow pair is the same, of a fast one small
# anyhow, and four hundred pairs take an hour. No limit of time leaves one out
AS_A_SWEEP = plan.FULL.protocol.model_copy(update={"processes": Protocol().processes, "budget": 4.0})
PLAN = replace(plan.FULL, protocol=AS_A_SWEEP, same=300, more=100, limit=None)
# in less time: under a load it is wrong verdicts that are counted, not undecided ones
BRIEF = AS_A_SWEEP.model_copy(update={"budget": 1.0})
BESIDE = replace(plan.FULL, protocol=BRIEF, loaded=200, loaded_limit=None)
INVOCATIONS, STEADY = 6, 6  # repeated invocations, and pairs in each: 30 degrees of freedom, a quarter of an hour
TASKS = 12  # timing tasks of the quick sweep


def told(line: str) -> None:
    sys.stderr.write(f"  {line}\n")


def figure(found: Interval, remark: str = "") -> Figure:
    return Figure(found.value, found.lo, found.hi, remark)


# ------------------------------------------------------------------------------------------- known differences


@contextlib.contextmanager
def here() -> Iterator[tuple[session.Machine, int]]:
    """This machine, and the threads that a sweep gives to what it times."""
    with launch.local(DEVICE) as machine:
        yield machine, machine.cores


@cache
def idle_pairs() -> Sequence[Comparison]:
    with here() as (machine, threads):
        asked = plan.questions(PLAN, session.kernels(PLAN, machine, threads, told))
        found, _ = session.comparisons(asked.idle, PLAN, machine, threads, None, told)
    for count in sorted({*session.FEWER, PLAN.protocol.processes}):
        told(f"resolution in {count} processes: {judge.resolution([c.in_processes(count) for c in found])}")
    return found


@cache
def loaded_pairs() -> Sequence[Comparison]:
    with here() as (machine, threads):
        asked = plan.questions(BESIDE, session.kernels(BESIDE, machine, threads, told))
        return session.under_load(asked, BESIDE, machine, threads, told)


def finding(
    of: Callable[[Sequence[Comparison]], list[Finding]], index: int, truth: float | None = None
) -> Callable[[], Figure]:
    """A finding of the check, over the pairs of one kind or over those under the load."""

    def measure() -> Figure:
        pairs = loaded_pairs() if truth is None else [c for c in idle_pairs() if c.pair.truth == truth]
        found = of(pairs)[index]
        return figure(found.figure, found.remark)

    return measure


def mean_estimate() -> Figure:
    """How far the mean estimate of 5 % is from 5 %, in points, its interval over pairs."""
    more = [c for c in idle_pairs() if c.pair.truth != 1]
    found = log_interval([c.ratio.value / c.pair.truth for c in more])
    distance = judge.deviation(found)
    return Figure(100 * distance.value, 100 * distance.lo, 100 * distance.hi, f"over {len(more)} pairs")


# ------------------------------------------------------------------------------------ repeated invocations


def pooled_sd(samples: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Standard deviation about each sample's own mean, pooled, with its degrees of freedom."""
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum((len(sample) - 1) * statistics.variance(sample) for sample in samples)
    return math.sqrt(squares / freedom), freedom


def sd_interval(sd: float, freedom: int) -> Interval:
    """The interval of a standard deviation, of normal data."""
    low, high = (stats.chi2.ppf(p, freedom) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Interval(sd, sd * math.sqrt(freedom / low), sd * math.sqrt(freedom / high))


def sd_ratio_interval(ours: tuple[float, int], theirs: tuple[float, int]) -> Interval:
    """The interval of the ratio of two standard deviations: F of their squares."""
    ratio = ours[0] / theirs[0]
    low, high = (stats.f.ppf(p, ours[1], theirs[1]) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return Interval(ratio, ratio / math.sqrt(low), ratio / math.sqrt(high))


@cache
def invocations() -> tuple[tuple[float, int], tuple[float, int]]:
    """sd of the log ratio of identical callables over invocations: ours, and that of torch.utils.benchmark.

    An invocation of ours is a comparison in fresh processes. One of torch.utils.benchmark is a fresh process that
    times the first, then the second, as long as ours took for both in all of its processes; the two alternate.
    """
    asked = replace(PLAN, same=STEADY, more=0)
    ours: list[list[float]] = [[] for _ in range(STEADY)]
    theirs: list[list[float]] = [[] for _ in range(STEADY)]
    with here() as (machine, threads):
        pairs = plan.questions(asked, session.kernels(asked, machine, threads, told)).idle
        for number in range(INVOCATIONS):
            found, _ = session.comparisons(pairs, asked, machine, threads, None, lambda line: None)
            spent = [sum(timed.wall for timed in c.timed) / 2 for c in found]
            for sample, comparison in zip(ours, found, strict=True):
                sample.append(math.log(comparison.ratio.value))
            for sample, ratio in zip(theirs, sequential(machine, threads, pairs, spent), strict=True):
                sample.append(math.log(ratio))
            told(f"invocation {number + 1} of {INVOCATIONS}")
    return pooled_sd(ours), pooled_sd(theirs)


def sequential(
    machine: session.Machine, threads: int, pairs: Sequence[Pair], seconds: Sequence[float]
) -> list[float]:
    """Each pair in one fresh process, one callable after the other."""
    order = Order(
        device=DEVICE, threads=threads, repetition=0, protocol=PLAN.protocol,
        sequential=list(zip(pairs, seconds, strict=True)),
    )  # fmt: skip
    return machine.launch(order).sequential


def spread() -> Figure:
    sd, freedom = invocations()[0]
    return figure(sd_interval(100 * sd, freedom), f"{INVOCATIONS} invocations of {STEADY} pairs")


def spread_against_sequential() -> Figure:
    ours, theirs = invocations()
    remark = f"{100 * ours[0]:.2f} % against {100 * theirs[0]:.2f} %"
    return figure(sd_ratio_interval(ours, theirs), remark)


# --------------------------------------------------------------------------------------------------- overhead


@cache
def timing_tasks() -> list[dict[str, float]]:
    """Where the seconds of timing tasks of the quick sweep went."""
    quick = sweep.load(SWEEP)
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        worker, at = Worker(), Path(folder)
        for task in chosen(quick):
            threads = task.cases[0].threads or env.identity(DEVICE)["cores"]
            request = Request.of(task, DEVICE, threads, quick.protocol, None)
            reply = local.attempt(worker, TaskOrder(task.id, 1, request), at, at, env.env_id(DEVICE)).reply
            assert reply is not None, f"task {task.id} died"
            (first, *_) = [result for result in reply.results if result.status == "ok"]
            found.append(first.details["walltime"])
            told(f"{task.id}: {found[-1]}")
    return found


def chosen(quick: sweep.Sweep) -> list[Task]:
    """Timing tasks from all over the sweep."""
    kinds = {name: metric.task for name, metric in METRICS.items()}
    wanted = tasks(expansion.expand(quick), quick.protocol.processes, kinds, {})
    timing = [task for task in wanted if task.kind == "timing"]
    return timing[:: max(1, len(timing) // TASKS)][:TASKS]


def overhead() -> Figure:
    """The mean over tasks; what is apart from it is in the remark."""
    shares = [100 * overhead_share(task) for task in timing_tasks()]
    return figure(mean_interval(shares), f"{len(shares)} tasks, worst {max(shares):.2g} %; {apart(timing_tasks())}")


def apart(tasks: Sequence[Mapping[str, float]]) -> str:
    """What the target leaves out: the parts of all the tasks' time, and the share with the first calls of visits."""
    whole = sum(sum(task.values()) for task in tasks)
    parts = {name: sum(task[name] for task in tasks) / whole for name in tasks[0]}
    first_calls = statistics.fmean(overhead_share(task, "start", "build", "warmup") for task in tasks)
    return (
        f"{first_calls:.1%} with the first calls of visits, which are discarded; of the tasks' whole time "
        + ", ".join(f"{name} {share:.1%}" for name, share in parts.items())
    )


# --------------------------------------------------------------------------------------------------- the parent

SHOWN = f"""
schema = 1
name = "parent"
title = "What the parent of a sweep uses"
[protocol]
processes = {TASKS}
precision = 1e-5
budget = 8
[[cases]]
subject = "linear"
metrics = ["latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion", "ph"]
n = [2, 4]
channels = 256
batch = 16
"""
LOOK = 0.25  # seconds between two looks at the parent
Look = tuple[float, float]  # when, and CPU seconds that the parent has used


@cache
def parent_shares() -> list[float]:
    """What ``bench run`` uses of a core while each of its timing workers lives, the display on a terminal included."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parent.toml"
        file.write_text(SHOWN)
        command = [sys.executable, "-m", "bench", "run", str(file), "--out", str(Path(folder) / "out")]
        ours, theirs = os.openpty()
        surroundings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings, start_new_session=True
        )
        os.close(theirs)
        said: list[bytes] = []
        reader = threading.Thread(target=read_all, args=(ours, said), daemon=True)
        reader.start()
        looks = looks_at(psutil.Process(process.pid), lambda: process.poll() is None)
        reader.join()
        os.close(ours)
    assert process.returncode == 0, b"".join(said)[-2000:].decode(errors="replace")
    assert b"\x1b[" in b"".join(said), "nothing was drawn: the display took this for no terminal"
    return shares_used(looks)


def read_all(file: int, said: list[bytes]) -> None:
    """Read a terminal until its other end is closed, as an emulator would."""
    with contextlib.suppress(OSError):  # EIO: nobody writes any more
        while text := os.read(file, 1 << 16):
            said.append(text)


def looks_at(parent: psutil.Process, lives: Callable[[], bool]) -> dict[int, list[Look]]:
    """What a parent had used at moments of each timing worker's life."""
    found: dict[int, list[Look]] = {}
    while lives():
        with contextlib.suppress(psutil.Error):  # a process that has just ended
            workers = [
                child.pid for child in parent.children() if child.cmdline()[1:3] == ["-m", "bench.task.worker"]
            ]
            used = parent.cpu_times()
            for pid in workers:
                found.setdefault(pid, []).append((time.perf_counter(), used.user + used.system))
        time.sleep(LOOK)
    return found


def shares_used(looks: Mapping[int, Sequence[Look]]) -> list[float]:
    """Of each worker's life, from the first look to the last, the share of a core that the parent used."""
    ends = [(of[0], of[-1]) for of in looks.values() if len(of) > 1]
    return [(last[1] - first[1]) / (last[0] - first[0]) for first, last in ends]


def parent_use() -> Figure:
    shares = [100 * share for share in parent_shares()]
    return figure(
        mean_interval(shares), f"{len(shares)} timing tasks of bench run on a terminal, worst {max(shares):.2g} %"
    )


TARGETS = [
    Target("identical callables: ratio off by more than 1 %", "of pairs", 0.05, finding(judge.same, 0, 1.0)),
    Target("identical callables: called different", "of pairs", 0.02, finding(judge.same, 1, 1.0)),
    Target("5 % more work: not called SLOWER", "of pairs", 0.05, finding(judge.more, 0, 1.05)),
    Target("5 % more work: estimate off by more than 1.5 points", "of pairs", 0.05, finding(judge.more, 1, 1.05)),
    Target("5 % more work: the mean estimate's distance", "points", 1.5, mean_estimate),
    Target("spread of a ratio over repeated invocations", "% sd", 1.0, spread),
    Target("that spread / the spread of sequential torch.utils.benchmark", "×", 0.25, spread_against_sequential),
    Target("a timing task: time outside measured calls", "%", 15.0, overhead),
    Target("while a worker times: bench run's use of a core", "%", 2.0, parent_use),
    Target("under a load on the other core: wrong verdicts", "of pairs", 0.02, finding(judge.loaded, 0)),
]
