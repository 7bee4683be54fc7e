"""Verdicts, corrections, percentiles and means over cases: against scipy, published figures and simulation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as reference

from bench import stats
from bench.stats import Interval, Verdict

GOLDEN = json.loads((Path(__file__).parent / "golden" / "stats.json").read_text())


def test_the_paired_difference_is_students_own():
    own = GOLDEN["sleep"]
    interval, p = stats.paired_difference(own["a"], own["b"])
    assert (interval.value, interval.lo, interval.hi) == pytest.approx((own["mean"], own["lo"], own["hi"]), abs=1e-6)
    assert p == pytest.approx(own["p"], abs=1e-6)


def test_holm_adjusts_as_r_does():
    assert stats.holm(GOLDEN["holm"]["p"]) == pytest.approx(GOLDEN["holm"]["adjusted"])


def test_holm_rejects_what_its_steps_reject():
    """The definition by steps: in rising order, compare p with alpha / (what is left), and stop at the first failure."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = (rng.random(6) ** 3).tolist()
        rejected = set()
        for rank, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (len(p) - rank):
                break
            rejected.add(int(index))
        assert {i for i, adjusted in enumerate(stats.holm(p)) if adjusted <= 0.05} == rejected


def test_a_test_that_could_not_be_made_is_not_counted():
    assert stats.holm([0.02, math.nan, 0.01]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert stats.holm([]) == []


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (1.011, 1.3, Verdict.SLOWER),
        (0.5, 0.99, Verdict.FASTER),
        (0.995, 1.005, Verdict.SAME),
        (1.002, 1.008, Verdict.SAME),  # it differs, by less than matters
        (1 / 1.01, 1.01, Verdict.SAME),
        (1.005, 1.02, Verdict.CANT_TELL),
        (0.9, 1.1, Verdict.CANT_TELL),
        (math.nan, math.nan, Verdict.CANT_TELL),
    ],
)
def test_a_verdict_takes_the_whole_interval_on_one_side_of_the_margin(lo, hi, expected):
    assert stats.verdict(Interval(1.0, lo, hi), 0.01) is expected


def test_old_over_new_has_the_opposite_verdict():
    opposite = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}
    rng = np.random.default_rng(1)
    for center, width in zip(rng.normal(0, 0.02, 300), rng.exponential(0.01, 300), strict=True):
        lo, hi = math.exp(center - width), math.exp(center + width)
        one, other = (stats.verdict(Interval(1.0, *ends)) for ends in ((lo, hi), (1 / hi, 1 / lo)))
        assert other is opposite.get(one, one)


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match="margin"):
        stats.verdict(Interval(1, 1, 1), -0.01)


def test_verdicts_are_written_as_people_say_them():
    assert [str(v) for v in Verdict] == ["SAME", "FASTER", "SLOWER", "CAN'T TELL"]


def test_among_more_comparisons_a_verdict_takes_more_evidence():
    ratios = [1.045, 1.05, 1.055]
    assert stats.process_verdict(ratios) is Verdict.SLOWER
    assert stats.process_verdict(ratios, among=20) is Verdict.CANT_TELL
    assert stats.verdict_level(1) == stats.LEVEL
    with pytest.raises(ValueError, match="among"):
        stats.verdict_level(0)


def _called(truth, spread, processes, among, seed):
    """The share of simulated comparisons with each verdict."""
    rng = np.random.default_rng(seed)
    rows = truth * np.exp(rng.normal(0, spread, (2000, processes)))
    found = [stats.process_verdict(row, among=among) for row in rows.tolist()]
    return {v: found.count(v) / len(found) for v in Verdict}


@pytest.mark.parametrize(
    ("truth", "spread", "processes", "among"), [(1.05, 0.02, 5, 1), (1.05, 0.01, 3, 1), (1.04, 0.01, 5, 7)]
)
def test_the_rate_of_slower_is_the_exact_one(truth, spread, processes, among):
    expected = stats.called_slower(truth, spread, processes, among=among)
    low, high = reference.binom.interval(0.999, 2000, expected)
    assert low <= 2000 * _called(truth, spread, processes, among, 3)[Verdict.SLOWER] <= high


@pytest.mark.parametrize("spread", [0.005, 0.01, 0.02, 0.05, 0.3])
def test_identical_cases_are_rarely_called_different_however_noisy_the_machine(spread):
    called = _called(1.0, spread, 5, 1, 4)
    wrong = called[Verdict.SLOWER] + called[Verdict.FASTER]
    assert wrong <= (0.02 if spread <= 0.02 else 0.05 + 0.015)  # 3 standard errors of 2000 over the limit
    assert 2 * stats.called_slower(1.0, spread, 5) <= 0.05


@pytest.mark.parametrize(("margin", "truth"), [(0.01, 1.01), (0.01, 1.0101), (0.05, 1.05)])
def test_at_the_margin_neither_claim_is_wrong_too_often(margin, truth):
    """A ratio of exactly 1 + m: SLOWER and SAME are both claims too many, 2.5 % each at most."""
    rng = np.random.default_rng(5)
    rows = truth * np.exp(rng.normal(0, margin / 4, (4000, 5)))
    found = [stats.process_verdict(row, margin) for row in rows.tolist()]
    for claim in (Verdict.SLOWER, Verdict.SAME):
        assert found.count(claim) <= reference.binom.ppf(0.9999, 4000, 0.03)
    assert Verdict.FASTER not in found


def test_all_verdicts_of_a_group_hold_together():
    """Seven identical cases against one baseline that they share, on a machine as noisy as the bound allows."""
    rng = np.random.default_rng(6)
    any_wrong = 0
    for _ in range(500):
        baseline = rng.normal(0, 0.2, (5, 1))
        ratios = np.exp(rng.normal(0, 0.2, (5, 7)) - baseline)
        found = {stats.process_verdict(column, among=7) for column in ratios.T.tolist()}
        any_wrong += bool(found & {Verdict.SLOWER, Verdict.FASTER})
    assert any_wrong <= reference.binom.ppf(0.999, 500, 0.05)


def test_what_is_resolved_is_called_as_often_as_said():
    smallest = stats.resolvable(0.01, 5, among=3)
    assert stats.called_slower(smallest, 0.01, 5, among=3) == pytest.approx(0.95, abs=1e-6)
    assert stats.resolvable(0.01, 10) < stats.resolvable(0.01, 5) < stats.resolvable(0.02, 5)
    with pytest.raises(ValueError, match="spread"):
        stats.resolvable(0.0, 5)


@pytest.mark.parametrize(("share", "needed"), GOLDEN["wilks"]["needed"].items())
def test_a_percentile_takes_the_samples_of_wilks(share, needed):
    share = float(share)
    assert stats.samples_needed(share) == needed
    outer = max(share, 1 - share)
    assert outer**needed <= 0.01 < outer ** (needed - 1), "the fewest that do"


def test_a_percentile_without_its_samples_is_none_with_the_reason():
    rng = np.random.default_rng(7)
    samples = rng.random(459).tolist()
    assert stats.percentile(samples, 0.99).value == pytest.approx(np.quantile(samples, 0.99))
    lacking = stats.percentile(samples[:-1], 0.99)
    assert (lacking.value, lacking.reason) == (None, "p99 takes 459 samples, there are 458")
    with pytest.raises(ValueError, match="p99 is 0.99"):
        stats.percentile(samples, 99)


def test_geometric_means_are_over_the_cases_that_all_have():
    found = stats.geometric_means(
        {"a": {1: 2.0, 2: 8.0, 3: 100.0}, "b": {2: 2.0, 1: 0.5}, "c": {1: 1.0, 2: 1.0, 4: 5.0}}
    )
    assert found.means == pytest.approx({"a": 4.0, "b": 1.0, "c": 1.0})
    assert found.cases == (1, 2)
    assert found.left_out == {3: ("b", "c"), 4: ("a", "b")}


def test_without_a_common_case_there_is_no_mean():
    found = stats.geometric_means({"a": {1: 2.0}, "b": {2: 2.0}})
    assert (found.means, found.cases) == ({}, ())
    assert found.left_out == {1: ("b",), 2: ("a",)}


def test_a_ratio_of_zero_has_no_geometric_mean():
    with pytest.raises(ValueError, match="leave out"):
        stats.geometric_means({"a": {1: 0.0}})
