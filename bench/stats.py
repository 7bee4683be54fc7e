"""Intervals, verdicts, percentiles and means over cases. Everything a table calls lo, hi or SLOWER comes from here.

A process is one observation: rounds within a process share its memory layout, and a bootstrap over a handful of
processes covers far less than it says. So: Student's t over processes, on the logarithm for times and ratios, and
a bootstrap only where there are processes enough for one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from typing import Generic, TypeVar

import numpy as np
from scipy import special

LEVEL = 0.95

# Fewer processes, and a bootstrap covers less than it says (docs/methodology.md has the simulated figures).
BOOTSTRAP_FROM = 20


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
    (found,) = mean_intervals(np.asarray([values], dtype=float), level).tolist()
    return Interval(*found)


def mean_intervals(data: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Of each row of ``data`` the mean and the ends of its Student's t interval, (rows, 3)."""
    count = data.shape[1]
    center = data.mean(axis=1)
    if count < 2:
        return np.stack([center, np.full_like(center, math.nan), np.full_like(center, math.nan)], axis=1)
    reach = _student(level, count - 1) * data.std(axis=1, ddof=1) / math.sqrt(count)
    return np.stack([center, center - reach, center + reach], axis=1)


@lru_cache(maxsize=4096)
def _student(level: float, freedom: float) -> float:
    """The end of Student's t interval, in standard errors."""
    return float(special.stdtrit(freedom, (1 + level) / 2))


def log_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Geometric mean and Student's t interval of the logarithms; values must be positive."""
    return _exp(mean_interval([math.log(value) for value in values], level))


def process_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Geometric mean over processes with its interval: Student's t on the logarithms, from 20 processes on BCa.

    values: one positive number a process (the median of its rounds). Source of BCa: Efron, *Better bootstrap
    confidence intervals*, JASA 82, 1987; the resamples are drawn from a fixed seed, so equal data give equal ends.
    """
    if len(values) < BOOTSTRAP_FROM:
        return log_interval(values, level)
    logs = np.log(np.asarray(values, dtype=float))
    center = float(logs.mean())
    if np.ptp(logs) == 0:  # no spread: every resample is the sample, and the acceleration would be 0/0
        return _exp(Interval(center, center, center))
    from scipy import stats  # half a second to load: not for a table that needs none of it

    resamples = max(9999, math.ceil(200 / (1 - level)))  # 100 of them beyond each end
    found = stats.bootstrap(
        (logs,), np.mean, confidence_level=level, n_resamples=resamples, batch=10_000, method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return _exp(Interval(center, float(found.low), float(found.high)))


def process_intervals(values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """``process_interval`` of each row of ``values``: (rows, processes) to (rows, value · lo · hi)."""
    if values.shape[1] < BOOTSTRAP_FROM:
        return np.exp(mean_intervals(np.log(values), level))
    found = [process_interval(row, level) for row in values.tolist()]
    return np.array([[each.value, each.lo, each.hi] for each in found]).reshape(-1, 3)


def _exp(inner: Interval) -> Interval:
    return Interval(math.exp(inner.value), math.exp(inner.lo), math.exp(inner.hi))


def placed_median(values: np.ndarray, placements: Sequence[int]) -> float:
    """What one process says: the geometric mean of its placements' medians, each of the weight of its rounds.

    values: a positive number a round; placements: how many rounds each of them has, in turn. It is a mean, not the
    median of all rounds, because placements may differ in kind: the median of two heaps jumps from one to the other.
    """
    parts = np.split(values, np.cumsum(placements)[:-1])
    return math.exp(float(np.average([math.log(np.median(part)) for part in parts], weights=placements)))


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> tuple[Interval, float]:
    """Mean of a - b over pairs, its interval, and the two-sided p-value of Student's paired test.

    p is NaN where all differences are one and the same: nothing says then how far chance would carry them.
    """
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    interval = mean_interval(difference.tolist(), level)
    if len(difference) < 2:
        return interval, math.nan
    if np.ptp(difference) == 0:
        return interval, 1.0 if difference[0] == 0 else math.nan
    t = interval.value / (difference.std(ddof=1) / math.sqrt(len(difference)))
    return interval, _two_sided(t, len(difference) - 1)


def resampled_difference(
    a: Sequence[float], b: Sequence[float], overlap: float, level: float = LEVEL
) -> tuple[Interval, float]:
    """``paired_difference`` where each pair is of another random split of one set of examples into train and test.

    The training sets overlap, so the differences are correlated, and Student's test finds differences that are not
    there. With s² their variance over R splits the variance of the mean is taken as (1/R + overlap) s², overlap the
    size of the test part over that of the training part. Source: Nadeau and Bengio, Machine Learning 52, 2003.
    """
    interval, p = paired_difference(a, b, level)
    if len(a) < 2 or interval.hi == interval.lo:  # no interval, or no spread
        return interval, p
    wider = math.sqrt(1 + len(a) * overlap)
    reach = wider * (interval.hi - interval.value)
    t = interval.value / (reach / _student(level, len(a) - 1))
    return Interval(interval.value, interval.value - reach, interval.value + reach), _two_sided(t, len(a) - 1)


def _two_sided(t: float, freedom: int) -> float:
    """The probability that Student's t lies as far from 0 or farther."""
    return float(2 * special.stdtr(freedom, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: all that lie below alpha are right together with probability 1 - alpha.

    adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), p_(1) <= p_(2) <= … the m p-values. NaN, a test that
    could not be made, stays NaN and does not count. Source: Holm, Scand. J. Statist. 6, 1979.
    """
    made = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - rank) * p))
        adjusted[index] = largest
    return adjusted


# ---------------------------------------------------------------------------------------------------- verdicts

MARGIN = 0.01  # a difference within 1 % is none in practice: where code and data lie in memory can make as much


class Verdict(StrEnum):
    """What an interval of new / old says about the new one's time."""

    SAME = "SAME"
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    CANT_TELL = "CAN'T TELL"


def verdict(ratio: Interval, margin: float = MARGIN) -> Verdict:
    """Where the whole interval of ``ratio``, new over old time, lies against the practical margin m.

        SLOWER      lo > 1 + m
        FASTER      hi < 1 / (1 + m)
        SAME        1 / (1 + m) <= lo and hi <= 1 + m
        CAN'T TELL  otherwise, and without an interval

    A verdict that is wrong (SLOWER of what is slower by no more than m, SAME of what is, …) takes an interval that
    misses the truth: 5 % at most at a level of 95 %, however noisy the machine; called_slower has the exact rates.
    """
    if margin < 0:
        raise ValueError(f"margin is a share of the time that makes no difference, so at least 0; got {margin}")
    high, low = 1 + margin, 1 / (1 + margin)
    if ratio.lo > high:
        return Verdict.SLOWER
    if ratio.hi < low:
        return Verdict.FASTER
    if ratio.lo >= low and ratio.hi <= high:
        return Verdict.SAME
    return Verdict.CANT_TELL  # NaN fails every comparison


def verdict_level(among: int) -> float:
    """The level of each of ``among`` intervals with which all of their verdicts are right together in 95 %.

    Bonferroni's 1 - 0.05/k: simultaneous intervals, and a verdict is a function of its interval. Holm's steps gain
    power for tests of one hypothesis each; for a choice between SLOWER, FASTER and SAME no such proof is known.
    """
    if among < 1:
        raise ValueError(f"among counts the comparisons of one table, this one included: at least 1, not {among}")
    return 1 - (1 - LEVEL) / among


def process_verdict(ratios: Sequence[float], margin: float = MARGIN, among: int = 1) -> Verdict:
    """The verdict on one case, a ratio a process, that is one of ``among`` compared with the same baseline."""
    return verdict(process_interval(ratios, verdict_level(among)), margin)


def called_slower(truth: float, spread: float, processes: int, margin: float = MARGIN, among: int = 1) -> float:
    """The probability that a true ratio of ``truth`` is called SLOWER, by fewer than 20 processes.

    spread: standard deviation of the log ratio between processes, normal. With T noncentral t of R - 1 degrees of
    freedom: P(T > t), noncentrality (log truth - log(1 + m)) sqrt(R) / spread. FASTER of 1/truth has the same.
    """
    if spread <= 0 or processes < 2:
        raise ValueError(f"needs a spread above 0 and at least 2 processes, got {spread} and {processes}")
    from scipy import stats

    critical = _student(verdict_level(among), processes - 1)
    away = (math.log(truth) - math.log1p(margin)) * math.sqrt(processes) / spread
    return float(stats.nct.sf(critical, processes - 1, away))


def resolvable(spread: float, processes: int, margin: float = MARGIN, among: int = 1, power: float = 0.95) -> float:
    """The smallest true ratio above 1 that is called SLOWER with probability ``power``; see called_slower."""
    from scipy import optimize

    def lacking(log_ratio: float) -> float:
        return called_slower(math.exp(log_ratio), spread, processes, margin, among) - power

    start = math.log1p(margin)
    reach = spread
    while lacking(start + reach) < 0:
        reach *= 2
    return math.exp(optimize.brentq(lacking, start, start + reach, xtol=1e-9))


# ------------------------------------------------------------------------------------------------- percentiles

PERCENTILE_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Percentile:
    """A percentile, or None with what lacked for it."""

    value: float | None
    reason: str = ""


@cache
def samples_needed(share: float) -> int:
    """The fewest samples whose largest (of a low percentile: smallest) lies beyond it with 99 % confidence.

    All n samples lie below the q quantile with probability q^n, so q^n <= 0.01: n = ceil(log 0.01 / log q), which is
    459 for p99, 90 for p95, 44 for p90 and 7 for the median. With fewer the percentile may lie outside of all that
    was seen. Source: Wilks, Ann. Math. Statist. 12, 1941 (the one-sided bound of first order).
    """
    if not 0 < share < 1:
        raise ValueError(f"a percentile's share lies between 0 and 1 (p99 is 0.99), got {share}")
    return math.ceil(math.log(1 - PERCENTILE_CONFIDENCE) / math.log(max(share, 1 - share)))


def percentile(samples: Sequence[float], share: float) -> Percentile:
    """The ``share`` quantile (0.99: p99) by linear interpolation, where there are samples enough for it."""
    return percentiles(samples, [share])[0]


def percentiles(samples: Sequence[float] | np.ndarray, shares: Sequence[float]) -> list[Percentile]:
    """Several of them, for the price of one."""
    found = []
    need = [samples_needed(share) for share in shares]
    values = np.quantile(samples, shares).tolist()
    for share, needed, value in zip(shares, need, values, strict=True):
        enough = len(samples) >= needed
        lacks = f"p{100 * share:g} takes {needed} samples, there are {len(samples)}"
        found.append(Percentile(value) if enough else Percentile(None, lacks))
    return found


# ---------------------------------------------------------------------------------------------- over many cases

V = TypeVar("V", bound=Hashable)
C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True)
class Overall(Generic[V, C]):
    """Geometric means by variant over ``cases``, those that every variant has; left_out: case → who lacks it."""

    means: Mapping[V, float]
    cases: tuple[C, ...]
    left_out: Mapping[C, tuple[V, ...]]


def geometric_means(ratios: Mapping[V, Mapping[C, float]]) -> Overall[V, C]:
    """Geometric mean of each variant's ratios, over the cases that all variants have and no others.

    ratios: variant → case → ratio. A mean over whatever a variant happens to have would rank it by what it failed
    at. Without a common case there are no means. Source of the mean: Fleming and Wallace, CACM 29, 1986.
    """
    for variant, own in ratios.items():
        if wrong := [case for case, ratio in own.items() if not ratio > 0]:
            raise ValueError(f"{variant} has no positive ratio in {wrong[0]}: leave out what was not measured")
    every = list(dict.fromkeys(case for own in ratios.values() for case in own))
    left_out = {case: lacking for case in every if (lacking := tuple(v for v in ratios if case not in ratios[v]))}
    common = tuple(case for case in every if case not in left_out)
    means = {v: math.exp(np.log([own[case] for case in common]).mean()) for v, own in ratios.items() if common}
    return Overall(means, common, left_out)


# ------------------------------------------------------------------------------- means that were measured apart


@dataclass(frozen=True)
class Estimate:
    """A mean with the variance *of that mean* and its degrees of freedom; an exact figure has none and infinite ones.

    Of ratios it is the mean of the logarithm. Without a second observation the variance is NaN.
    """

    mean: float
    variance: float = 0.0
    df: float = math.inf


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of ``values``, each an observation of its own."""
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return Estimate(float(data.mean()), math.nan, math.nan)
    return Estimate(float(data.mean()), float(data.var(ddof=1)) / len(data), len(data) - 1)


def log_estimate(found: Interval, observations: int, level: float = LEVEL) -> Estimate:
    """The estimate behind an interval of Student's t on the logarithms; one whose ends are equal is exact."""
    mean = math.log(found.value)
    if found.lo == found.hi:
        return Estimate(mean)
    if observations < 2 or math.isnan(found.lo):
        return Estimate(mean, math.nan, math.nan)
    reach = (math.log(found.hi) - math.log(found.lo)) / 2
    critical = _student(level, observations - 1)
    return Estimate(mean, (reach / critical) ** 2, observations - 1)


def combination(weights: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """Sum of w_i mean_i over independent estimates.

    Its variance is sum w_i² v_i, its degrees of freedom Satterthwaite's (sum w_i² v_i)² / sum (w_i² v_i)²/df_i; with
    weights 1 and -1 this is Welch's comparison of two means. Source: Satterthwaite, Biometrics Bulletin 2, 1946.
    """
    mean = math.fsum(w * e.mean for w, e in zip(weights, estimates, strict=True))
    parts = [(w * w * e.variance, e.df) for w, e in zip(weights, estimates, strict=True)]
    variance = math.fsum(v for v, _ in parts)
    if variance == 0:
        return Estimate(mean)
    return Estimate(mean, variance, variance**2 / math.fsum(v * v / df for v, df in parts if v))


def together(estimates: Sequence[Estimate]) -> Estimate:
    """The plain mean of estimates that may share their noise: as uncertain as if they shared all of it."""
    mean = math.fsum(e.mean for e in estimates) / len(estimates)
    deviation = math.fsum(math.sqrt(e.variance) for e in estimates) / len(estimates)
    return Estimate(mean, deviation**2, min(e.df for e in estimates))


def estimate_interval(found: Estimate, level: float = LEVEL) -> Interval:
    """Student's t interval of an estimate; of an exact one both ends are the figure."""
    if found.variance == 0:
        return Interval(found.mean, found.mean, found.mean)
    reach = _student(level, found.df) * math.sqrt(found.variance)
    return Interval(found.mean, found.mean - reach, found.mean + reach)
