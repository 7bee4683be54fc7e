"""Latency of a chunk of a group: all its subjects in one process, interleaved round by round."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from phnn import timing

MIN_ROUNDS = 8


def stop_rule(
    names: Sequence[str], precision: float, budget: float, clock: Callable[[], float] = time.perf_counter
) -> timing.Stop:
    """Stop when every median is known to ``precision`` (relative half-width), or after ``budget`` seconds."""
    started: float | None = None

    def stop(rounds: Sequence[timing.Round]) -> str | None:
        nonlocal started
        started = clock() if started is None else started
        if len(rounds) < MIN_ROUNDS:
            return None
        if clock() - started >= budget:
            return "budget"
        if len(rounds) % 4 == 0 and all(half_width([r.seconds[n] for r in rounds]) <= precision for n in names):
            return "precision"
        return None

    return stop


def half_width(values: Sequence[float]) -> float:
    """Relative half-width of the 95 % interval of a median, from order statistics (no distribution assumed).

    Source: Hahn and Meeker, *Statistical Intervals*, 1991: ranks n/2 -+ 0.98 sqrt(n).
    """
    ordered = sorted(values)
    count = len(ordered)
    reach = math.ceil(0.98 * math.sqrt(count))
    low, high = max(0, count // 2 - reach), min(count - 1, (count - 1) // 2 + reach)
    return (ordered[high] - ordered[low]) / (2 * statistics.median(ordered))


def measure(
    calls: Mapping[str, Callable[[], object]],
    *,
    precision: float,
    budget: float,
    min_block: float,
    seed: int,
    device: str,
) -> timing.Samples:
    """Interleaved rounds of all ``calls``, raw. seed draws the order of the rounds."""
    return timing.sample(
        calls,
        stop_rule(list(calls), precision, budget),
        min_block=min_block,
        sync=torch.cuda.synchronize if device == "cuda" else timing.no_sync,
        rng=random.Random(seed),
    )
