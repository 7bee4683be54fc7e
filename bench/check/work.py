"""Kernels of a wanted duration, and how a pair of callables made of them is timed.

The pair is timed as a sweep times two variants: the harness's own sampler with its own rule to stop, a ratio a
round, their median, the mean over placements. Each callable has tensors of its own, as two variants of a layer have.
"""

from __future__ import annotations

import functools
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from phnn.timing import Clock

from ..machine import devices
from ..measure import latency
from ..measure.placements import Place, Placed
from ..plan.sweep import Protocol
from ..stats import placed_median
from .messages import Family, Kernel, Pair, Timed

Call = Callable[[], object]
Sampler = Callable[[Place], Placed]

_LADDER = 1.12  # ratio of a size to the one below, where sizes are tried


def _matmul(size: int, device: str) -> Call:
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    return lambda: a @ b


def _conv(size: int, device: str) -> Call:
    x, w = torch.randn(1, 16, size, size, device=device), torch.randn(16, 16, 3, 3, device=device)
    return lambda: functional.conv2d(x, w, padding=1)


def _copy(size: int, device: str) -> Call:
    """Bound by memory; it writes in place, so that no page is fetched from the system while it is timed."""
    a, b = (torch.randn(size, 1024, device=device) for _ in range(2))
    return lambda: a.copy_(b)


# family → what makes its kernel, smallest and largest size
_FAMILIES: dict[Family, tuple[Callable[[int, str], Call], int, int]] = {
    "matmul": (_matmul, 8, 8192),
    "conv": (_conv, 4, 2048),
    "copy": (_copy, 1, 1 << 18),
}


def build(kernel: Kernel, device: str) -> Call:
    """The kernel over tensors of its own; the same numbers each time."""
    torch.manual_seed(0)
    return _FAMILIES[kernel.family][0](kernel.size, device)


def repeated(kernel: Call, times: int) -> Call:
    """One call of what is returned is so many calls of the kernel."""

    def call() -> None:
        with torch.inference_mode():
            for _ in range(times):
                kernel()

    return call


def sampler(protocol: Protocol, device: str, seed: int) -> Sampler:
    """How the harness times the variants of a chunk."""

    def measure(place: Place) -> Placed:
        return latency.measure(
            place,
            placements=protocol.placements,
            precision=protocol.precision,
            budget=protocol.budget,
            min_block=protocol.min_block,
            seed=seed,
            device=devices.find(device),
        )

    return measure


def built(pair: Pair, make: Callable[[Kernel], Call], repetition: int, placement: int) -> dict[str, Call]:
    """Both callables of a pair, built in the order of a process and placement, and in that order."""
    times = dict(zip(("first", "second"), pair.calls, strict=True))
    order = latency.build_order(list(times), repetition, placement, str(pair))
    return {name: repeated(make(pair.kernel), times[name]) for name in order}


def timed(place: Place, sample: Sampler, clock: Clock = time.perf_counter) -> Timed:
    """What one process finds of two callables, ``first`` and ``second``; they are warmed up in their order."""
    start = clock()
    samples = sample(place)
    ratios = [r.seconds["second"] / r.seconds["first"] for r in samples.rounds]
    return Timed(
        ratio=placed_median(np.asarray(ratios), samples.placements),
        seconds=statistics.median(samples.seconds("first")),
        rounds=len(ratios),
        stopped=samples.stopped,
        wall=clock() - start,
    )


def time_pairs(
    pairs: Sequence[Pair],
    make: Callable[[Kernel], Call],
    sample: Sampler,
    limit: float | None,
    repetition: int = 0,
    clock: Clock = time.perf_counter,
) -> list[Timed]:
    """Every pair in turn, built, timed and let go of, until ``limit`` seconds are over."""
    start, found = clock(), []
    for pair in pairs:
        if limit is not None and clock() - start > limit:
            break
        found.append(timed(functools.partial(built, pair, make, repetition), sample, clock))
    return found


def in_random_order(pairs: Sequence[Pair], seed: int, time_them: Callable[[list[Pair]], list[Timed]]) -> list[Timed]:
    """The findings of all ``pairs``, in their order, timed in another: what one leaves behind meets ever another."""
    order = random.Random(seed).sample(range(len(pairs)), len(pairs))
    found = dict(zip(order, time_them([pairs[i] for i in order]), strict=True))
    return [found[i] for i in range(len(pairs))]


def kernels(durations: Sequence[float], seconds_of: Callable[[Kernel], float]) -> list[Kernel]:
    """For each duration, a kernel of each family that takes about as long.

    seconds_of measures a kernel; sizes are climbed until the longest duration is passed.
    """
    ladders = {family: _climb(family, max(durations), seconds_of) for family in _FAMILIES}
    return [_nearest(ladders[family], wanted) for wanted in durations for family in _FAMILIES]


def _climb(family: Family, longest: float, seconds_of: Callable[[Kernel], float]) -> list[tuple[Kernel, float]]:
    _, size, largest = _FAMILIES[family]
    found: list[tuple[Kernel, float]] = []
    while size <= largest and not (found and found[-1][1] > longest):
        kernel = Kernel(family=family, size=size)
        found.append((kernel, seconds_of(kernel)))
        size = max(size + 1, round(size * _LADDER))
    return found


def _nearest(ladder: Sequence[tuple[Kernel, float]], wanted: float) -> Kernel:
    return min(ladder, key=lambda entry: abs(math.log(entry[1] / wanted)))[0]


def brief_seconds(kernel: Call, sync: Callable[[], None], clock: Clock = time.perf_counter) -> float:
    """Seconds per call, roughly: the least of a few short blocks."""
    kernel()
    sync()
    blocks = []
    for _ in range(3):
        start, calls = clock(), 0
        while (spent := clock() - start) < 2e-4:
            kernel()
            sync()
            calls += 1
        blocks.append(spent / calls)
    return min(blocks)
