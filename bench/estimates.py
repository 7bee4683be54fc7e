"""Medians of processes made into estimates with intervals and marks, for thousands of timings at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .stats import process_intervals

NOISY = 0.10  # an interval wider than this on either side earns the mark
DRIFTING = 0.05  # so does a second half of the rounds that differs by more than this from the first

Medians = Sequence[float]  # of one process: of all its rounds, of the first half of them, of the second (or NaN)

K = TypeVar("K", bound=Hashable)


class Estimate(NamedTuple):
    """A figure with the ends of its interval (NaN where one process allows none) and the marks that it earned."""

    value: float
    lo: float
    hi: float
    marks: str = ""


def estimates(processes: Mapping[K, Sequence[Medians]]) -> dict[K, Estimate]:
    """The 95 % interval over the processes of each timing.

    noisy: the interval is wide, or there is none; drifting: the second half of the rounds differs from the first, in
    the same way in all processes.
    """
    found = {}
    for keys, medians in _alike(processes):
        intervals = process_intervals(medians[:, :, 0])
        noisy = ~((intervals[:, 2] - intervals[:, 1]) / (2 * intervals[:, 0]) <= NOISY)  # NaN is no narrow interval
        drifting = _drifting(medians)
        for key, interval, *earned in zip(keys, intervals.tolist(), noisy.tolist(), drifting.tolist(), strict=True):
            found[key] = Estimate(*interval, ",".join(_NAMED[tuple(earned)]))
    return found


_NAMED = {
    (False, False): (),
    (True, False): ("noisy",),
    (False, True): ("drifting",),
    (True, True): ("noisy", "drifting"),
}


def intervals_at(levels: Mapping[K, float], processes: Mapping[K, Sequence[Medians]]) -> dict[K, Estimate]:
    """The interval of each timing at a level of its own."""
    by_level: dict[float, dict[K, Sequence[Medians]]] = defaultdict(dict)
    for key, level in levels.items():
        by_level[level][key] = processes[key]
    return {
        key: Estimate(*row)
        for level, own in by_level.items()
        for keys, medians in _alike(own)
        for key, row in zip(keys, process_intervals(medians[:, :, 0], level).tolist(), strict=True)
    }


def _alike(processes: Mapping[K, Sequence[Medians]]) -> Iterator[tuple[list[K], np.ndarray]]:
    """The timings that have equally many processes, with an array of (timing, process, median)."""
    by_count: dict[int, list[K]] = defaultdict(list)
    for key, own in processes.items():
        by_count[len(own)].append(key)
    for keys in by_count.values():
        yield keys, np.array([processes[key] for key in keys], dtype=float)


def _drifting(medians: np.ndarray) -> np.ndarray:
    """Of each timing whether its second half over its first lies beyond the margin, as far as two processes tell."""
    ratios = medians[:, :, 2] / medians[:, :, 1]
    told = ~np.isnan(ratios)
    whole = told.all(axis=1) & (ratios.shape[1] > 1)
    found = np.zeros(len(ratios), dtype=bool)
    if whole.any():
        found[whole] = _beyond(process_intervals(ratios[whole]))
    for row in np.flatnonzero(~whole & (told.sum(axis=1) > 1)):
        found[row] = _beyond(process_intervals(ratios[row, told[row]][None]))[0]
    return found


def _beyond(intervals: np.ndarray) -> np.ndarray:
    return (intervals[:, 1] > 1 + DRIFTING) | (intervals[:, 2] < 1 / (1 + DRIFTING))
