"""Intervals. Everything a table calls lo and hi comes from here.

A process is one observation: rounds within a process share its memory layout, and a bootstrap over a handful of
processes covers far less than it says. So: Student's t over processes, on the logarithm for times and ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval; both ends are NaN where one observation allows none."""

    value: float
    lo: float
    hi: float

    @property
    def relative_half_width(self) -> float:
        """Half of the interval over the estimate."""
        return (self.hi - self.lo) / (2 * abs(self.value))


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean and Student's t interval."""
    data = np.asarray(values, dtype=float)
    center = float(data.mean())
    if len(data) < 2:
        return Interval(center, math.nan, math.nan)
    reach = float(stats.t.ppf((1 + level) / 2, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return Interval(center, center - reach, center + reach)


def log_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Geometric mean and Student's t interval of the logarithms; values must be positive."""
    inner = mean_interval([math.log(value) for value in values], level)
    return Interval(math.exp(inner.value), math.exp(inner.lo), math.exp(inner.hi))


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> tuple[Interval, float]:
    """Mean of a - b over pairs, its interval, and the two-sided p-value of Student's paired test."""
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    interval = mean_interval(difference.tolist(), level)
    if len(difference) < 2:
        return interval, math.nan
    if np.ptp(difference) == 0:  # no spread: the test statistic is 0/0 or infinite
        return interval, 1.0 if difference[0] == 0 else 0.0
    return interval, float(stats.ttest_1samp(difference, 0.0).pvalue)
