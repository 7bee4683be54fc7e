"""From ratios to findings: shares with their intervals, bars, and the smallest difference that is told apart.

Pure functions of numbers. A finding is missed only where its whole interval lies beyond the bar: the check, too,
may say that it can't tell.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from scipy import stats

from ..stats import LEVEL, Interval, Verdict, process_interval, process_verdict, verdict_level
from .messages import Pair, Timed

State = Literal["met", "can't tell", "missed"]

WITHIN_SAME = 0.01  # two of a kind: a ratio further than this from 1 is off
WITHIN_MORE = 0.015  # more work: an estimate further than this from the truth is off
RESOLVED = 0.95  # the share of comparisons in which a resolved difference is called


def state(value: float, lo: float, hi: float, bar: float) -> State:
    """Met or missed when the whole interval lies on one side of the bar; by the value alone if there is none."""
    if math.isnan(lo) or math.isnan(hi):
        return "met" if value <= bar else "missed"
    return "met" if hi <= bar else "missed" if lo > bar else "can't tell"


@dataclass(frozen=True)
class Finding:
    """One figure of the check, in ``unit``, with its 95 % interval and the bar that it must not exceed."""

    name: str
    unit: str
    figure: Interval
    bar: float
    remark: str = ""
    remedy: str = ""

    @property
    def state(self) -> State:
        """Where the interval lies."""
        return state(self.figure.value, self.figure.lo, self.figure.hi, self.bar)


@dataclass(frozen=True)
class Comparison:
    """A pair with what each of R fresh processes found: one row of a table, as a sweep would have made it."""

    pair: Pair
    timed: tuple[Timed, ...]

    def in_processes(self, count: int) -> Comparison:
        """What the first ``count`` of its processes found, as if there had been no more."""
        return Comparison(self.pair, self.timed[:count])

    @property
    def ratio(self) -> Interval:
        """second / first, with its interval over processes, as for every latency_ratio."""
        return process_interval(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """second / first, a median a process."""
        return [t.ratio for t in self.timed]

    @property
    def verdict(self) -> Verdict:
        """What the benchmark says of the second callable."""
        return process_verdict(self.ratios)

    @property
    def off(self) -> float:
        """How far the estimate is from the truth."""
        return abs(self.ratio.value - self.pair.truth)

    @property
    def wrong(self) -> bool:
        """Something untrue was said. CAN'T TELL is never untrue; SAME is, of different work."""
        right = Verdict.SAME if self.pair.truth == 1 else Verdict.SLOWER
        return self.verdict not in (right, Verdict.CANT_TELL)


def share(count: int, total: int, level: float = LEVEL) -> Interval:
    """``count`` of ``total``, with the interval of Clopper and Pearson: it covers at least ``level``.

    Source: C. J. Clopper, E. S. Pearson, *Biometrika* 26, 1934.
    """
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"{count} of {total} is no share: count what happened among at least one trial")
    ends = stats.binomtest(count, total).proportion_ci(level, method="exact")
    return Interval(count / total, float(ends.low), float(ends.high))


def share_finding(
    name: str, bar: float, comparisons: Sequence[Comparison], holds: Callable[[Comparison], bool], remark: str = ""
) -> Finding:
    """In which share of the comparisons something holds that should not."""
    count, total = sum(map(holds, comparisons)), len(comparisons)
    said = [f"{count} of {total}", *([remark] if remark else [])]
    if total < (needed := enough_for(bar)):
        said.append(f"{total} are too few to meet this bar, which takes {needed} pairs or more")
    return Finding(name, "share", share(count, total), bar, "; ".join(said))


@cache
def enough_for(bar: float) -> int:
    """The fewest trials of which none at all shows a share below ``bar``: 72 for 5 %, 183 for 2 %."""
    return next(total for total in itertools.count(1) if share(0, total).hi <= bar)


def _spread_of(comparisons: Sequence[Comparison]) -> str:
    worst = max(comparisons, key=lambda c: c.off)
    kernel = f"{worst.pair.kernel.family} {worst.timed[0].seconds * 1e3:.2g} ms"
    mean = math.exp(statistics.fmean(math.log(c.ratio.value) for c in comparisons))
    return f"mean ratio {mean:.4f}, worst {worst.ratio.value:.4f} ({kernel})"


def same(comparisons: Sequence[Comparison]) -> list[Finding]:
    """A/A: is noise called a difference?"""
    return [
        share_finding(
            "identical callables: ratio off by more than 1 %",
            0.05, comparisons, lambda c: c.off > WITHIN_SAME, _spread_of(comparisons),
        ),
        share_finding(
            "identical callables: called different",
            0.02, comparisons, lambda c: c.verdict in (Verdict.FASTER, Verdict.SLOWER), _verdicts(comparisons),
        ),
    ]  # fmt: skip


def more(comparisons: Sequence[Comparison]) -> list[Finding]:
    """A/B: is 5 % more work found, and as 5 %?"""
    return [
        share_finding(
            "5 % more work: not called SLOWER",
            0.05, comparisons, lambda c: c.verdict != Verdict.SLOWER, _verdicts(comparisons),
        ),
        share_finding(
            "5 % more work: estimate off by more than 1.5 points",
            0.05, comparisons, lambda c: c.off > WITHIN_MORE, _spread_of(comparisons),
        ),
    ]  # fmt: skip


def loaded(comparisons: Sequence[Comparison]) -> list[Finding]:
    """Both kinds of pairs while something runs on another core: is anything untrue said?"""
    return [
        share_finding(
            "under a load on another core: wrong verdicts",
            0.02, comparisons, lambda c: c.wrong, _verdicts(comparisons),
        )
    ]  # fmt: skip


def _verdicts(comparisons: Sequence[Comparison]) -> str:
    said = [c.verdict for c in comparisons]
    return ", ".join(f"{said.count(v)} {v}" for v in Verdict if v in said)


def agreement(timer: str, per_process: Sequence[Sequence[float]], bar: float = 0.05) -> Finding:
    """How far another timer's times are from ours on the kernel where it is furthest.

    per_process: its time / ours, a value a kernel. The distance of each kernel has its interval over processes, and
    all of these hold together (Bonferroni), so the largest lies between the largest of the lower and of the upper
    ends: what one kernel takes longer does not make up for what another takes less.
    """
    level = verdict_level(len(per_process[0]))
    ratios = [process_interval(of_kernel, level) for of_kernel in zip(*per_process, strict=True)]
    away = [deviation(ratio) for ratio in ratios]
    worst = Interval(max(d.value for d in away), max(d.lo for d in away), max(d.hi for d in away))
    told = sorted(ratio.value for ratio in ratios)
    remark = f"its time / ours {told[0]:.4f} to {told[-1]:.4f} over {len(told)} kernels"
    return Finding(f"{timer}: distance from our times, where largest", "share", worst, bar, remark)


def deviation(ratio: Interval) -> Interval:
    """The distance of a ratio from 1: an interval that holds 1 reaches down to 0."""
    ends = abs(ratio.lo - 1), abs(ratio.hi - 1)
    return Interval(abs(ratio.value - 1), 0.0 if ratio.lo <= 1 <= ratio.hi else min(ends), max(ends))


def called_from(comparison: Comparison) -> float:
    """The smallest slowdown of the second callable that this comparison would have called SLOWER.

    The noise of a ratio is a factor, so a slowdown moves its interval as a whole; the verdict is asked, not modelled.
    Infinite if even a tenfold time is not called.
    """

    def is_called(slowdown: float) -> bool:
        factor = (1 + slowdown) / comparison.pair.truth
        return process_verdict([ratio * factor for ratio in comparison.ratios]) == Verdict.SLOWER

    low, high = 0.0, 9.0
    if not is_called(high):
        return math.inf
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if is_called(middle) else (middle, high)
    return high


def resolution(comparisons: Sequence[Comparison], wanted: float = RESOLVED) -> Interval:
    """The smallest slowdown that is called in a share ``wanted`` of comparisons."""
    return quantile([called_from(c) for c in comparisons], wanted)


def quantile(values: Sequence[float], wanted: float) -> Interval:
    """A quantile with the interval of order statistics: no distribution is assumed.

    hi is infinite where the values are too few to bound it (of 0.95: fewer than 72).
    Source: Hahn and Meeker, *Statistical Intervals*, 1991, chapter 5.
    """
    ordered, count = sorted(values), len(values)
    tail = (1 - LEVEL) / 2
    low = max(1, int(stats.binom.ppf(tail, count, wanted)))
    high = int(stats.binom.ppf(1 - tail, count, wanted)) + 1
    value = ordered[math.ceil(wanted * count) - 1]
    return Interval(value, ordered[low - 1], ordered[high - 1] if high <= count else math.inf)


def compared(pairs: Sequence[Pair], processes: Sequence[Sequence[Timed]]) -> list[Comparison]:
    """Pairs with what each process found of them; all processes have timed all of ``pairs``."""
    return [Comparison(pair, tuple(timed)) for pair, *timed in zip(pairs, *processes, strict=True)]


def clock_findings(readings: Mapping[str, Sequence[float]], min_block: float) -> list[Finding]:
    """Steps and costs of the clock, as shares of the shortest block that is timed with it."""
    names = {"step": "the clock: its step / shortest block", "cost": "the clock: two readings / shortest block"}
    return [
        Finding(
            names[name], "share", quantile([s / min_block for s in seconds], 0.5), 0.01,
            f"{statistics.median(seconds) * 1e9:.0f} ns",
        )
        for name, seconds in readings.items()
    ]  # fmt: skip


def clock_readings(clock: Callable[[], float], count: int = 200) -> dict[str, list[float]]:
    """step: the differences between one reading and the next that differs; cost: seconds a pair of readings takes."""
    steps, costs = [], []
    for _ in range(count):
        start = clock()
        while (now := clock()) == start:
            pass
        steps.append(now - start)
        start = clock()
        for _ in range(50):
            clock()
            clock()
        costs.append((clock() - start) / 50)
    return {"step": steps, "cost": costs}
