"""Medians and intervals of many timings at once are those of each alone."""

import math
import random
import statistics

import numpy as np
import pytest

from bench.stats import log_interval, process_interval, process_intervals
from bench.table.estimates import estimates, intervals_at
from bench.table.rounds import Rounds


def test_medians_of_spans_are_those_of_their_samples_whole_and_by_halves():
    rng = random.Random(3)
    own = [[rng.lognormvariate(0, 1) for _ in range(rng.choice([1, 2, 3, 7, 8, 50]))] for _ in range(200)]
    rounds = Rounds()
    spans = [rounds.add(seconds) for seconds in own]
    for seconds, found in zip(own, rounds.medians(spans).tolist(), strict=True):
        half = len(seconds) // 2
        assert found[0] == statistics.median(seconds)
        if half:
            assert found[1:] == [statistics.median(seconds[:half]), statistics.median(seconds[half:])]
        else:
            assert all(map(math.isnan, found[1:]))


def test_ratios_are_taken_round_by_round():
    rounds = Rounds()
    mine, theirs = rounds.add([2.0, 30.0, 8.0]), rounds.add([1.0, 10.0, 2.0])
    other, base = rounds.add([5.0]), rounds.add([2.0])
    assert rounds.medians([mine, other], [theirs, base])[:, 0].tolist() == [3.0, 2.5]
    with pytest.raises(ValueError, match="as many"):
        rounds.medians([mine], [base])
    assert rounds.medians([]).shape == (0, 3)
    assert rounds.add([]) == (0, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20, 21])
def test_intervals_of_many_are_those_of_each(count):
    rng = random.Random(count)
    own = [[rng.lognormvariate(0, 0.1) for _ in range(count)] for _ in range(7)]
    medians = np.array([[(median, math.nan, math.nan) for median in each] for each in own])
    levels = [0.95 + 0.01 * (i % 3) for i in range(7)]
    for values, level, found, judged in zip(
        own, levels, estimates(medians), intervals_at(levels, medians), strict=True
    ):
        for interval, at in ((found, 0.95), (judged, level)):
            expected = process_interval(values, at)
            assert interval[:3] == pytest.approx((expected.value, expected.lo, expected.hi), nan_ok=True)
        assert ("noisy" in found.marks) is (count == 1 or found.hi - found.lo > 0.2 * found.value)


def test_rows_of_equally_many_processes_are_computed_together():
    import numpy as np

    data = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])
    expected = [log_interval(row) for row in data.tolist()]
    assert process_intervals(data) == pytest.approx(np.array([[e.value, e.lo, e.hi] for e in expected]))


@pytest.mark.parametrize(
    ("halves", "drifts"),
    [
        ([(1.0, 1.2), (1.0, 1.2), (1.0, 1.2)], True),
        ([(1.2, 1.0), (1.2, 1.0)], True),
        ([(1.0, 1.2), (1.2, 1.0), (1.0, 1.0)], False),
        ([(1.0, 1.2), (math.nan, math.nan), (1.0, 1.2)], True),
        ([(1.0, 1.2), (math.nan, math.nan)], False),
        ([(1.0, 1.2)], False),
    ],
)
def test_a_timing_drifts_where_all_processes_that_tell_agree(halves, drifts):
    (found,) = estimates(np.array([[(1.0, *own) for own in halves]]))
    assert ("drifting" in found.marks) is drifts
