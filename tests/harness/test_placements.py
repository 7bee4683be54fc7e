"""Subjects that are built anew within a process: when another placement is begun, and what all of them say together."""

import math
import random
import statistics
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from bench.machine import devices
from bench.measure import latency
from bench.plan.sweep import Protocol
from bench.stats import placed_median
from bench.store import lines
from bench.table.rounds import Rounds
from bench.task import timing
from bench.task.protocol import Request


@dataclass
class Memory:
    """A machine on whose clock calls take as long as their place in memory makes them.

    between: sd of the logarithm of a callable's time over placements; within: over calls; building: seconds.
    """

    between: float = 0.0
    within: float = 0.005
    building: float = 0.0
    seconds: float = 2e-3
    now: float = 0.0
    built: list[int] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(5))

    def clock(self):
        return self.now

    def place(self, number):
        self.built.append(number)
        self.now += self.building if number else 0.0
        return {name: self.callable_of(math.exp(self.rng.gauss(0, self.between))) for name in ("a", "b")}

    def callable_of(self, factor):
        def call():
            self.now += self.seconds * factor * math.exp(self.rng.gauss(0, self.within))

        return call

    def measure(self, placements, precision=0.02, budget=2.0):
        return latency.measure(
            self.place, placements=placements, precision=precision, budget=budget, min_block=1e-3, seed=1,
            device=devices.Cpu(), clock=self.clock,
        )  # fmt: skip


def ratio_of(samples):
    return placed_median(np.array([r.seconds["b"] / r.seconds["a"] for r in samples.rounds]), samples.placements)


def test_one_placement_is_built_once_and_stops_as_it_did():
    memory = Memory()
    samples = memory.measure(1)
    assert memory.built == [0]
    assert (samples.stopped, samples.placements) == ("precision", (latency.MIN_ROUNDS,))


def test_placements_that_agree_are_as_few_as_were_asked_for():
    memory = Memory(between=0.001)
    samples = memory.measure(4)
    assert memory.built == [0, 1, 2, 3]
    assert samples.stopped == "precision"
    assert samples.placements == (latency.MIN_ROUNDS,) * 4
    assert len(samples.rounds) == 4 * latency.MIN_ROUNDS


def test_placements_that_disagree_are_followed_by_others_while_the_budget_lasts():
    memory = Memory(between=0.05)
    samples = memory.measure(4)
    assert samples.stopped == "budget"
    assert len(memory.built) > 10
    assert all(count >= latency.MIN_ROUNDS for count in samples.placements[:-1])
    assert sum(samples.placements) == len(samples.rounds)


def test_more_placements_bring_the_ratio_nearer_to_one():
    off = {}
    for placements in (1, 8):
        off[placements] = [
            math.log(ratio_of(Memory(between=0.05, rng=random.Random(seed)).measure(placements)))
            for seed in range(12)
        ]
    once, often = (statistics.pstdev(off[placements], mu=0) for placements in (1, 8))
    assert often < once / 2
    assert scipy_stats.ttest_1samp(off[8], 0).pvalue > 0.01


def test_building_is_paid_from_the_budget():
    cheap, dear = Memory(between=0.05), Memory(between=0.05, building=0.2)
    for memory in (cheap, dear):
        memory.measure(4)
        assert memory.now < 2.3, "the warm-up and eight rounds beside it"
    assert len(dear.built) < len(cheap.built) / 2


@pytest.mark.parametrize(("seconds", "placements"), [(0.05, 1), (0.03, 1), (0.01, 3)])
def test_no_placement_is_begun_that_the_budget_does_not_hold(seconds, placements):
    """A round of calls of 50 ms takes 200: eight of them are 1.6 seconds of two."""
    memory = Memory(seconds=seconds, between=0.05)
    samples = memory.measure(4)
    assert len(memory.built) == placements
    assert all(count >= latency.MIN_ROUNDS for count in samples.placements[:-1])
    assert samples.stopped == "budget"


def test_a_process_says_the_mean_of_its_placements_each_of_the_weight_of_its_rounds():
    values = np.array([1.0, 4.0, 2.0, 8.0, 8.0, 1.0])
    assert placed_median(values, (6,)) == pytest.approx(np.median(values))
    assert placed_median(values, (3, 3)) == pytest.approx(math.sqrt(2 * 8))
    assert placed_median(values, (3, 2, 1)) == pytest.approx((2.0**3 * 8.0**2 * 1.0) ** (1 / 6))


def test_a_table_says_of_a_process_what_its_placements_say():
    rng, rounds = random.Random(2), Rounds()
    mine, theirs = ([rng.lognormvariate(0, 1) for _ in range(20)] for _ in range(2))
    counts = (8, 9, 3)
    plain = rounds.add([5.0] * 20)
    spans = [rounds.add(seconds, counts) for seconds in (mine, theirs)]
    (alone, of_plain), (ratio,) = rounds.medians([spans[0], plain]), rounds.medians([spans[0]], [spans[1]])
    assert alone == pytest.approx(
        [placed_median(np.array(mine), counts), np.median(mine[:8]), placed_median(np.array(mine[8:]), (9, 3))]
    )
    assert of_plain.tolist() == [5.0, 5.0, 5.0]
    assert ratio[0] == pytest.approx(placed_median(np.array(mine) / np.array(theirs), counts))


@pytest.mark.parametrize("counts", [[2, 2], [4, 0, -1], [0, 3]])
def test_a_line_whose_placements_are_not_its_rounds_is_refused(counts):
    results = [{"status": "ok", "seconds": [1.0, 1.0, 1.0], "details": {"placements": counts}}]
    with pytest.raises(ValueError, match="the rounds of all placements"):
        lines._check_aligned({"results": results})
    results[0]["details"]["placements"] = [1, 2]
    lines._check_aligned({"results": results})


def test_placements_make_another_task_and_one_is_what_tasks_always_had():
    one = Protocol(placements=1).of_timing
    assert "placements" not in one
    assert Protocol(placements=2).of_timing == {**one, "placements": 2}
    assert Protocol().of_timing == {**one, "placements": 4}


# ------------------------------------------------------------------------------------------------ a timing task


def request(planned, placements, **factors):
    return Request(
        kind="timing", cases=[p.case.factors | factors for p in planned], metrics=["latency"], repetition=1,
        device="cpu", threads=1, protocol=Protocol(budget=60.0, precision=0.9, placements=placements),
    )  # fmt: skip


@pytest.fixture
def built(monkeypatch):
    """The names of the cases in the order in which they are built."""
    found, real_build = [], timing.build
    monkeypatch.setattr(timing, "build", lambda case, *args: found.append(case.id) or real_build(case, *args))
    return found


def test_a_task_builds_all_of_its_subjects_for_each_placement_in_turned_order(planned, built):
    results = timing.measured(request(planned, 4))
    orders = [built[i : i + len(planned)] for i in range(0, len(built), len(planned))]
    assert len(orders) >= 4
    assert orders[1] == orders[0][::-1]
    assert orders[3] == orders[2][::-1]
    for result in results:
        assert result.status == "ok"
        assert len(result.details["placements"]) == len(orders)
        assert sum(result.details["placements"]) == len(result.seconds)
    spent = results[0].details["walltime"]
    assert spent["overhead"] < spent["build"] + spent["measured"] + spent["warmup"] + spent["discarded"]


def test_a_sample_is_a_mean_of_calls_if_it_is_one_in_any_placement(planned, monkeypatch):
    """Each placement finds its own number of calls for a block: percentiles are of single calls alone."""

    def grown(*args, **kwargs):
        found = real_measure(*args, **kwargs)
        first = replace(found.rounds[0], calls=dict.fromkeys(found.rounds[0].calls, 1))
        last = replace(found.rounds[-1], calls=dict.fromkeys(found.rounds[-1].calls, 10**6))
        return replace(found, rounds=(first, *found.rounds[1:-1], last))

    real_measure = latency.measure
    monkeypatch.setattr(latency, "measure", grown)
    assert {r.details["calls_per_block"] for r in timing.measured(request(planned, 2))} == {10**6}


@pytest.mark.parametrize("factors", [{"compile": "aot_eager"}, {"path": "tuned"}])
def test_what_building_would_compile_or_tune_again_is_built_once(planned, built, factors):
    results = timing.measured(request(planned[:1], 4, **factors))
    assert len(built) == 1
    assert "placements" not in results[0].details


def test_a_subject_that_cannot_be_built_again_is_named(planned, monkeypatch):
    tries, real_build = [], timing.build

    def build(case, *args):
        tries.append(case.id)
        if len(tries) > len(planned):
            raise torch.OutOfMemoryError("no memory left")
        return real_build(case, *args)

    monkeypatch.setattr(timing, "build", build)
    with pytest.raises(RuntimeError, match="built once, and not again"):
        timing.measured(request(planned, 2))
