"""The other timers, on a callable of ours: torch.utils.benchmark, pytest-benchmark, on a GPU triton's do_bench."""

from __future__ import annotations

import importlib.util
import random
import statistics
from collections.abc import Callable, Mapping, Sequence

from .work import Call, Sampler

Timer = Callable[[Call], float]  # seconds per call

OURS = "ours"
SECONDS = 0.1  # that a timer may take for one answer


def ours(sample: Sampler) -> Timer:
    """The harness: the median of the rounds of one callable."""
    return lambda call: statistics.median(sample(lambda _: {OURS: call}).seconds(OURS))


def torch_benchmark(threads: int, seconds: float = SECONDS) -> Timer:
    """torch.utils.benchmark's ``blocked_autorange``; it synchronises a GPU by itself."""
    from torch.utils.benchmark import Timer as TorchTimer

    def measure(call: Call) -> float:
        timer = TorchTimer("call()", globals={"call": call}, num_threads=threads)
        return float(timer.blocked_autorange(min_run_time=seconds).median)

    return measure


def do_bench(seconds: float = SECONDS) -> Timer:
    """triton's do_bench, asked for the median (its default is the mean); it flushes the L2 cache before each call."""
    from triton.testing import do_bench as triton_do_bench

    return lambda call: float(triton_do_bench(call, rep=seconds * 1e3, return_mode="median")) * 1e-3


def at_hand(device: str, threads: int, sync: Callable[[], None]) -> tuple[dict[str, Timer], dict[str, str]]:
    """Timers that can be asked here, and of the others why not."""
    timers = {"torch.utils.benchmark": torch_benchmark(threads)}
    absent = {}
    if all(importlib.util.find_spec(name) for name in ("pytest", "pytest_benchmark")):
        from .pytest_timer import pytest_benchmark

        timers["pytest-benchmark"] = pytest_benchmark(sync, SECONDS)
    else:
        absent["pytest-benchmark"] = "not installed: pip install pytest-benchmark"
    if device != "cuda":
        absent["triton do_bench"] = "it times CUDA devices only"
    elif importlib.util.find_spec("triton"):
        timers["triton do_bench"] = do_bench()
    else:
        absent["triton do_bench"] = "not installed: pip install triton"
    return timers, absent


def over_ours(
    calls: Sequence[Call], reference: Timer, timers: Mapping[str, Timer], seed: int, repeats: int = 5
) -> dict[str, list[float]]:
    """Timer → its time over ours, a median over repeats for each callable.

    In each repeat every timer has its turn, in random order, beside ours: the machine drifts between two answers.
    """
    rng = random.Random(seed)
    found: dict[str, list[float]] = {name: [] for name in timers}
    for call in calls:
        ratios: dict[str, list[float]] = {name: [] for name in timers}
        for _ in range(repeats):
            turn = [(OURS, reference), *timers.items()]
            rng.shuffle(turn)
            seconds = {name: timer(call) for name, timer in turn}
            for name in timers:
                ratios[name].append(seconds[name] / seconds[OURS])
        for name in timers:
            found[name].append(statistics.median(ratios[name]))
    return found


def one_after_the_other(first: Call, second: Call, timer: Timer) -> float:
    """second / first as most comparisons are made: one is timed, then the other."""
    before = timer(first)
    return timer(second) / before
