import math

import numpy as np
import pytest
from scipy import stats as reference

from bench import stats
from bench.measure.latency import MIN_ROUNDS, half_width, left_out, stop_rule
from phnn.timing import Round


def test_the_mean_interval_is_students():
    values = [1.0, 2.0, 4.0, 8.0]
    found = stats.mean_interval(values)
    low, high = reference.t.interval(0.95, 3, loc=np.mean(values), scale=reference.sem(values))
    assert (found.value, found.lo, found.hi) == pytest.approx((3.75, low, high))


def test_the_log_interval_is_the_mean_interval_of_the_logarithms():
    found = stats.log_interval([1.0, 10.0, 100.0])
    assert found.value == pytest.approx(10.0)
    assert found.lo * found.hi == pytest.approx(100.0), "symmetric on the log scale"


def test_one_observation_has_no_interval():
    found = stats.log_interval([3.0])
    assert found.value == pytest.approx(3.0)
    assert math.isnan(found.lo)
    assert math.isnan(found.hi)


@pytest.mark.parametrize("count", [3, 5])
def test_intervals_over_a_few_processes_cover_as_often_as_they_say(count):
    """Simulated at the number of processes that sweeps use: 95 % means 95 %."""
    rng = np.random.default_rng(0)
    draws = np.exp(rng.normal(0.0, 0.02, size=(4000, count)))
    intervals = [stats.log_interval(row) for row in draws.tolist()]
    covered = np.mean([found.lo <= 1.0 <= found.hi for found in intervals])
    assert abs(covered - 0.95) < 0.015


def test_the_paired_test_is_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 1, 8), rng.normal(0, 1, 8)
    interval, p = stats.paired_difference(a.tolist(), b.tolist())
    assert p == pytest.approx(reference.ttest_rel(a, b).pvalue)
    assert interval.value == pytest.approx((a - b).mean())


def test_equal_pairs_have_no_difference():
    interval, p = stats.paired_difference([0.5, 0.5], [0.5, 0.5])
    assert (interval.value, interval.lo, interval.hi, p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("count", range(8, 101))
def test_the_interval_of_a_median_covers_95_per_cent_and_no_narrower_one_would(count):
    """Exactly, of any distribution: the median lies beyond the k-th value with the chance of k heads or fewer."""

    def covers(left_out):
        return 1 - 2 * sum(math.comb(count, heads) for heads in range(left_out + 1)) / 2**count

    low = left_out(count)
    assert covers(low) >= 0.95 > covers(low + 1)
    assert half_width(list(range(1, count + 1))) == pytest.approx((count - 1 - 2 * low) / (count + 1))


@pytest.mark.parametrize("count", [1000, 4001, 30_000])
def test_the_interval_of_a_median_is_scipys_however_many_values_there_are(count):
    assert left_out(count) == reference.binom.ppf(0.025, count, 0.5) - 1


@pytest.mark.parametrize("count", range(1, 6))
def test_of_a_few_values_all_are_in_the_interval_of_their_median(count):
    assert left_out(count) == 0


def stop_after(seconds, precision, budget):
    clock = iter([0.0, *[budget / 2] * 1000])
    rule = stop_rule(precision, budget, clock=lambda: next(clock))
    rounds = []
    for value in seconds:
        if reason := rule(rounds):
            return reason, len(rounds)
        rounds.append(Round({"a": value}, {"a": 1}))
    return None, len(rounds)


def test_timing_stops_when_the_median_is_known_well_enough():
    assert stop_after([1.0] * 50, precision=0.01, budget=9.0) == ("precision", MIN_ROUNDS)


def test_timing_goes_on_while_the_median_is_not_known():
    assert stop_after([1.0, 2.0] * 50, precision=0.01, budget=9.0) == (None, 100)


def test_timing_stops_at_the_budget_whatever_is_known():
    clock = iter(float(i) for i in range(1000))
    rule = stop_rule(1e-9, 20.0, clock=lambda: next(clock))
    rounds = []
    while not (reason := rule(rounds)):
        rounds.append(Round({"a": float(len(rounds) % 2 + 1)}, {"a": 1}))
    assert reason == "budget"
    assert len(rounds) >= MIN_ROUNDS
