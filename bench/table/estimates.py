"""Medians of processes made into estimates with intervals and marks, for thousands of timings at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..stats import process_intervals

NOISY = 0.10  # an interval wider than this on either side earns the mark
DRIFTING = 0.05  # so does a second half of the rounds that differs by more than this from the first


class Estimate(NamedTuple):
    """A figure with the ends of its interval (NaN where one process allows none) and the marks that it earned."""

    value: float
    lo: float
    hi: float
    marks: str = ""


def estimates(medians: np.ndarray) -> list[Estimate]:
    """Of each timing the estimate with its 95 % interval over processes.

    medians: (timing, process, 3), of all rounds and of either half of them, the halves NaN where there are none.
    noisy: the interval is wide, or there is none; drifting: the second half of the rounds differs from the first, in
    the same way in all processes.
    """
    intervals = process_intervals(medians[:, :, 0])
    noisy = ~((intervals[:, 2] - intervals[:, 1]) / (2 * intervals[:, 0]) <= NOISY)  # NaN is no narrow interval
    marks = [_MARKS[earned] for earned in zip(noisy.tolist(), _drifting(medians).tolist(), strict=True)]
    return [
        Estimate(value, lo, hi, earned) for (value, lo, hi), earned in zip(intervals.tolist(), marks, strict=True)
    ]


_MARKS = {
    (False, False): "", (True, False): "noisy", (False, True): "drifting", (True, True): "noisy,drifting",
}  # fmt: skip


def intervals_at(levels: Sequence[float], medians: np.ndarray) -> list[Estimate]:
    """Of each timing the interval at a level of its own."""
    wanted = np.array(levels)
    found = np.empty((len(medians), 3))
    for level in np.unique(wanted).tolist():
        rows = wanted == level
        found[rows] = process_intervals(medians[rows, :, 0], level)
    return [Estimate(value, lo, hi) for value, lo, hi in found.tolist()]


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
