"""Which way is worse: a change of any metric, turned so that above 1 is worse, and the word for its verdict."""

from __future__ import annotations

import math

from ..metrics import METRICS
from ..stats import Interval, Verdict, verdict


def by_difference(metric: str) -> bool:
    """Shares and losses of a training are compared by their difference; times, bytes and counts by their ratio."""
    return METRICS[metric].task == "training" and METRICS[metric].unit == "1"


def turned(change: Interval, metric: str) -> Interval:
    """A ratio, or a difference d as exp(d), of which more than 1 is worse."""
    if by_difference(metric):
        change = Interval(math.exp(change.value), math.exp(change.lo), math.exp(change.hi))
    if METRICS[metric].better == "lower":
        return change
    return Interval(1 / change.value, 1 / change.hi, 1 / change.lo)


def bar(margin: float, metric: str) -> float:
    """A margin as ``turned`` has it: a difference of m is a ratio of exp(m)."""
    return math.expm1(margin) if by_difference(metric) else margin


def worse(change: Interval, metric: str, margin: float) -> Verdict:
    """The verdict on a ratio or difference b over a: SLOWER where b is worse by more than the margin."""
    return verdict(turned(change, metric), bar(margin, metric))


def within(change: Interval, metric: str, share: float) -> bool:
    """Whether b is shown to be worse by no more than ``share``; how much better it may be is not asked."""
    return turned(change, metric).hi <= 1 + bar(share, metric)  # NaN is within nothing


def said(found: Verdict, metric: str) -> str:
    """The word for a verdict: what is no time is not slower but worse."""
    if METRICS[metric].unit == "s" or metric == "latency_ratio":
        return found.value
    return {Verdict.SLOWER: "WORSE", Verdict.FASTER: "BETTER"}.get(found, found.value)
