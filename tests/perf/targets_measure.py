"""Targets of measuring itself: what is called different and what is not, how steady a ratio is, what the harness costs.

The questions, the processes and the verdicts are those of ``bench check``; only their number is that of the targets.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from scipy import stats
from targets import Figure, Target

from bench import env, sweep
from bench.case import Task, tasks
from bench.check import judge, launch, plan, session
from bench.check.judge import Comparison, Finding
from bench.check.messages import Order, Pair
from bench.launch import local
from bench.launch.engine import Order as TaskOrder
from bench.launch.processes import Worker
from bench.measure.latency import overhead_share
from bench.metrics import METRICS
from bench.protocol import Request
from bench.stats import LEVEL, Interval, log_interval, mean_interval

DEVICE = "cpu"
SWEEP = Path(__file__).resolve().parents[2] / "bench" / "sweeps" / "quick.toml"
# every pair is timed in every process: no limit of time leaves one out
PLAN = replace(plan.FULL, same=300, more=150, loaded=200, limit=None, loaded_limit=None)
INVOCATIONS, STEADY = 20, 6  # repeated invocations, and pairs in each
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
    told(f"resolution: {judge.resolution(found)}")
    return found


@cache
def loaded_pairs() -> Sequence[Comparison]:
    with here() as (machine, threads):
        asked = plan.questions(PLAN, session.kernels(PLAN, machine, threads, told))
        return session.under_load(asked, PLAN, machine, threads, told)


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
    """Of timing tasks of the quick sweep: their share of overhead, and what the parent used of a core meanwhile."""
    quick = sweep.load(SWEEP)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        worker, at = Worker(), Path(folder)
        for task in chosen(quick):
            threads = task.cases[0].threads or env.identity(DEVICE)["cores"]
            request = Request.of(task, DEVICE, threads, quick.protocol, None)
            used, start = time.process_time(), time.perf_counter()
            reply = local.attempt(worker, TaskOrder(task.id, 1, request), at, at, env.env_id(DEVICE)).reply
            assert reply is not None, f"task {task.id} died"
            wall, used = time.perf_counter() - start, time.process_time() - used
            (first, *_) = [result for result in reply.results if result.status == "ok"]
            walltime: dict[str, Any] = first.details["walltime"]
            found.append(
                {
                    "overhead": overhead_share(walltime),
                    "parent": used / wall,
                }
            )
            told(f"{task.id}: {found[-1]}, {walltime}")
    return found


def chosen(quick: sweep.Sweep) -> list[Task]:
    """Timing tasks from all over the sweep."""
    kinds = {name: metric.task for name, metric in METRICS.items()}
    wanted = tasks(sweep.expand(quick), quick.protocol.processes, kinds, {})
    timing = [task for task in wanted if task.kind == "timing"]
    return timing[:: max(1, len(timing) // TASKS)][:TASKS]


def share_of(name: str) -> Callable[[], Figure]:
    """The mean over tasks."""

    def measure() -> Figure:
        found = mean_interval([100 * entry[name] for entry in timing_tasks()])
        worst = max(100 * entry[name] for entry in timing_tasks())
        return figure(found, f"{len(timing_tasks())} tasks, worst {worst:.2g} %")

    return measure


TARGETS = [
    Target("identical callables: ratio off by more than 1 %", "of pairs", 0.05, finding(judge.same, 0, 1.0)),
    Target("identical callables: called different", "of pairs", 0.02, finding(judge.same, 1, 1.0)),
    Target("5 % more work: not called SLOWER", "of pairs", 0.05, finding(judge.more, 0, 1.05)),
    Target("5 % more work: estimate off by more than 1.5 points", "of pairs", 0.05, finding(judge.more, 1, 1.05)),
    Target("5 % more work: the mean estimate's distance", "points", 1.5, mean_estimate),
    Target("spread of a ratio over repeated invocations", "% sd", 1.0, spread),
    Target("that spread / the spread of sequential torch.utils.benchmark", "×", 0.25, spread_against_sequential),
    Target("a timing task: time outside measured calls", "%", 15.0, share_of("overhead")),
    Target("a timing task: the parent's use of a core", "%", 2.0, share_of("parent")),
    Target("under a load on the other core: wrong verdicts", "of pairs", 0.02, finding(judge.loaded, 0)),
]
