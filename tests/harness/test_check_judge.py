"""What the self-test concludes from what it timed: bars, wrong verdicts, and the smallest difference told apart."""

import itertools
import math
import random

import pytest
from scipy import stats as scipy_stats

from bench.check import judge
from bench.check.judge import Comparison, Finding
from bench.check.messages import Kernel, Pair, Timed
from bench.stats import Interval, Verdict, log_interval


def comparison(ratios, calls=(20, 20)):
    pair = Pair(kernel=Kernel(family="copy", size=1), calls=calls)
    return Comparison(pair, tuple(Timed(ratio=r, seconds=1e-3, rounds=8, stopped="budget", wall=1.0) for r in ratios))


STEADY = (0.999, 1.0, 1.001, 1.0, 1.0)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.01, 0.0, 0.02), "met"),
        ((0.04, 0.01, 0.07), "can't tell"),
        ((0.06, 0.04, 0.08), "can't tell"),
        ((0.09, 0.051, 0.2), "missed"),
        ((0.04, math.nan, math.nan), "met"),
        ((0.06, math.nan, math.nan), "missed"),
    ],
)
def test_a_bar_is_missed_only_when_the_interval_excludes_it(ends, expected):
    assert Finding("f", "share", Interval(*ends), 0.05).state == expected


@pytest.mark.parametrize(("count", "total"), [(0, 300), (6, 300), (1, 7), (7, 7)])
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(count, total):
    found = judge.share(count, total)
    beta = scipy_stats.beta
    assert found.lo == pytest.approx(beta.ppf(0.025, count, total - count + 1) if count else 0.0)
    assert found.hi == pytest.approx(beta.ppf(0.975, count + 1, total - count) if count < total else 1.0)
    assert found.value == count / total


@pytest.mark.parametrize(("bar", "enough"), [(0.05, 72), (0.02, 183)])
def test_a_bar_that_so_few_pairs_cannot_meet_says_how_many_it_takes(bar, enough):
    pairs = [comparison(STEADY)] * enough
    few, many = (
        judge.share_finding("f", bar, pairs[:count], lambda c: c.wrong, "so") for count in (enough - 1, enough)
    )
    assert (few.state, many.state) == ("can't tell", "met")
    assert f"; so; {enough - 1} are too few to meet this bar, which takes {enough} pairs or more" in few.remark
    assert many.remark == f"0 of {enough}; so"


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one trial"):
        judge.share(0, 0)


@pytest.mark.parametrize(
    ("ratios", "calls", "wrong"),
    [
        (STEADY, (20, 20), False),
        (STEADY, (20, 21), True),  # SAME, said of different work
        ([r * 1.05 for r in STEADY], (20, 21), False),
        ([r * 1.05 for r in STEADY], (20, 20), True),
        ([r / 1.05 for r in STEADY], (20, 21), True),
        ((0.7, 1.4, 1.0, 0.9, 1.2), (20, 20), False),  # CAN'T TELL
        ((0.7, 1.4, 1.0, 0.9, 1.2), (20, 21), False),
    ],
)
def test_a_wrong_verdict_is_one_that_says_something_untrue(ratios, calls, wrong):
    assert comparison(ratios, calls).wrong is wrong


def test_the_smallest_slowdown_is_where_the_verdict_turns():
    found = comparison(STEADY)
    turns = judge.called_from(found)
    assert 0.01 < turns < 0.02
    assert comparison([r * (1 + turns) for r in STEADY]).verdict == Verdict.SLOWER
    assert comparison([r * (1 + turns - 1e-4) for r in STEADY]).verdict != Verdict.SLOWER
    same_noise = comparison([r * 1.05 for r in STEADY], (20, 21))
    assert judge.called_from(same_noise) == pytest.approx(turns, abs=1e-4), (
        "what a pair really differs by is no noise"
    )
    assert judge.called_from(comparison([1e-3, 1e3, 1.0, 1e-3, 1e3])) == math.inf


@pytest.mark.parametrize(("count", "bounded"), [(71, False), (72, True), (200, True)])
def test_a_resolution_has_an_upper_end_from_72_comparisons_on(count, bounded):
    found = judge.resolution([comparison(STEADY)] * count)
    assert math.isfinite(found.hi) is bounded


def test_the_interval_of_a_resolution_covers_the_quantile_in_95_of_100():
    """Ranks, not values: uniform numbers stand for the thresholds."""
    rng = random.Random(3)
    trials, covered = 2000, 0
    for _ in range(trials):
        found = judge.quantile([rng.random() for _ in range(120)], 0.95)
        covered += found.lo <= 0.95 <= found.hi
    assert scipy_stats.binomtest(covered, trials, 0.95, alternative="less").pvalue > 0.001


def test_agreement_is_a_distance_and_reaches_zero_where_the_interval_holds_one():
    assert judge.deviation(Interval(1.02, 0.98, 1.06)) == Interval(pytest.approx(0.02), 0.0, pytest.approx(0.06))
    assert judge.deviation(Interval(0.8, 0.7, 0.9)).lo == pytest.approx(0.1)
    assert judge.agreement("t", [[1.5, 1.4], [1.45, 1.5], [1.5, 1.5]]).state == "missed"
    assert judge.agreement("t", [[1.0, 1.01], [1.0, 0.99], [1.001, 1.0]]).state == "met"


def test_what_a_timer_takes_longer_on_one_kernel_does_not_make_up_for_another():
    found = judge.agreement("t", [[1.25, 0.8, 1.0], [1.251, 0.801, 1.0], [1.249, 0.799, 1.001]])
    assert found.state == "missed"
    assert found.figure.value == pytest.approx(0.25, abs=1e-3)
    assert found.remark == "its time / ours 0.8000 to 1.2500 over 3 kernels"


def test_the_more_kernels_are_asked_the_wider_is_the_interval_of_each():
    """The largest of several distances is larger by chance alone."""
    noisy = [1.0, 1.02, 0.98, 1.01, 0.99]
    alone, among = (judge.agreement("t", [[value] * kernels for value in noisy]) for kernels in (1, 5))
    expected = log_interval(noisy, 1 - 0.05 / 5)
    assert among.figure.hi == pytest.approx(max(expected.hi - 1, 1 - expected.lo))
    assert among.figure.hi > alone.figure.hi


def test_clock_readings_are_steps_and_costs():
    ticks = itertools.count()
    readings = judge.clock_readings(lambda: next(ticks) * 1e-7, count=9)
    assert readings["step"] == pytest.approx([1e-7] * 9)
    assert readings["cost"] == pytest.approx([2e-7] * 9, rel=0.05)
    step, cost = judge.clock_findings(readings, min_block=1e-3)
    assert (step.state, cost.state) == ("met", "met")
    assert step.figure.value == pytest.approx(1e-4)
