"""The self-test, on machines that a test makes up: their clock, their noise and their faults. No real time passes."""

import contextlib
import functools
import itertools
import json
import math
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bench.check import messages, plan, session, tell, work
from bench.check.messages import Kernel, Pair, Timed
from bench.machine import devices
from bench.measure import latency
from bench.measure.placements import Placements
from bench.plan import sweep
from bench.plan.sweep import Protocol
from bench.stats import Verdict
from phnn import timing

QUICK_SWEEP = Path(plan.__file__).parents[1] / "sweeps" / "quick.toml"
PLAN = plan.Plan(
    protocol=Protocol(processes=5, precision=0.01, budget=0.3, placements=1),
    same=40, more=40, loaded=20, longest=0.01, limit=None, loaded_limit=None, peers=2,
)  # fmt: skip


@dataclass
class Simulated:
    """A machine with a clock of its own.

    between: sd of the log of a callable's time over processes (where its memory came to lie); within: the same over
    blocks; drift: sd of a random walk of the whole machine, a step a block; favours: the factor of the callable that
    was built second; beside: how much more noise there is under a load; hides: no call beyond the twentieth costs.
    """

    between: float = 0.003
    within: float = 0.005
    drift: float = 0.0
    favours: float = 1.0
    beside: float = 4.0
    hides: bool = False
    busy: float = 0.01
    tick: float = 0.0
    cores: int = 2
    cut_after: int | None = None
    now: float = 0.0
    pace: float = 1.0
    loaded: bool = False
    orders: list[messages.Order] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    def clock(self):
        self.now += 2e-8
        return self.now if not self.tick else math.floor(self.now / self.tick) * self.tick

    def spend(self, seconds):
        more = self.beside if self.loaded else 1.0
        self.pace *= math.exp(self.rng.gauss(0, self.drift * more))
        self.now += seconds * self.pace * math.exp(self.rng.gauss(0, self.within * more))

    def callable_of(self, pair, calls, second):
        place = math.exp(self.rng.gauss(0, self.between)) * (self.favours if second else 1.0)
        seconds = pair.kernel.size * 1e-9 * (min(calls, 20) if self.hides else calls) * place
        return lambda: self.spend(seconds)

    def place(self, pair, number):
        return {name: self.callable_of(pair, pair.calls[i], i == 1) for i, name in enumerate(("first", "second"))}

    def launch(self, order):
        self.orders.append(order)
        found = {}
        if order.durations:
            found["kernels"] = [
                Kernel(family=family, size=round(s * 1e9)) for s in order.durations for family in plan.FAMILIES
            ]

        def sample(place):
            return latency.measure(
                place, placements=order.protocol.placements, precision=order.protocol.precision,
                budget=order.protocol.budget, min_block=1e-3, seed=order.repetition, device=devices.Cpu(),
                clock=self.clock,
            )  # fmt: skip

        pairs = order.pairs[: self.cut_after] if order.limit is not None else order.pairs
        timed = []
        for pair in pairs:
            timed.append(work.timed(functools.partial(self.place, pair), sample, self.clock))
        peers = {"other": [math.exp(self.rng.gauss(0, 0.01)) for _ in order.peers]} if order.peers else {}
        return messages.Answer(pairs=timed, peers=peers, absent={"third": "it is not here"}, **found)

    @contextlib.contextmanager
    def load(self):
        self.loaded = True
        yield
        self.loaded = False

    def machine(self):
        rest = [{"foreign_cpu": self.busy * factor, "steal": 0.001} for factor in (1.0, 1.1, 1.0, 1.0)]
        return session.Machine(
            device="cpu", cores=self.cores, launch=self.launch, load=self.load, look_on=lambda: rest, clock=self.clock,
        )  # fmt: skip


def check(simulated, asked=PLAN):
    return session.run(asked, simulated.machine(), min(2, simulated.cores), lambda line: None)


def missed(report):
    return {finding.name for finding in report.missed}


# ------------------------------------------------------------------------------------------- whole machines


def test_a_quiet_machine_passes_and_is_told_what_it_resolves():
    report = check(Simulated())
    assert not report.missed
    assert 0.01 < report.resolution.value < 0.03
    assert report.resolution.lo <= report.resolution.value <= report.resolution.hi
    page = tell.page(report)
    assert "each until ±1% or 0.3 s; verdicts with" in page
    assert "PASS" in page
    assert "are told apart here" in page


def test_several_placements_bring_down_what_memory_adds():
    plans = [
        replace(PLAN, protocol=Protocol(precision=0.01, budget=1.0, placements=count), same=15, more=15, loaded=2)
        for count in (1, 8)
    ]
    once, anew = (check(Simulated(between=0.03), asked) for asked in plans)
    assert anew.resolution.value < once.resolution.value / 2
    assert "each until ±1% or 1 s of 8 placements or more; verdicts with" in tell.page(anew)


def test_a_machine_where_every_process_is_lucky_in_its_own_way_fails():
    report = check(Simulated(between=0.05))
    assert "identical callables: ratio off by more than 1 %" in missed(report)
    assert "5 % more work: not called SLOWER" in missed(report)
    assert report.resolution.value > 0.1
    assert tell.page(report).count("FAIL") == 1


def test_noise_alone_is_seldom_called_a_difference_however_large_it_is():
    report = check(Simulated(between=0.05), replace(PLAN, same=150, more=2, loaded=2))
    (called,) = [f for f in report.sections["A/A, the same twice"] if f.name.endswith("called different")]
    assert called.state != "missed"


def test_a_sampler_that_favours_one_of_two_is_found_out():
    report = check(Simulated(favours=1.03))
    assert "identical callables: called different" in missed(report)


def test_work_that_costs_nothing_is_found_out():
    report = check(Simulated(hides=True))
    assert {"5 % more work: not called SLOWER", "5 % more work: estimate off by more than 1.5 points"} <= missed(
        report
    )
    assert "under a load on another core: wrong verdicts" in missed(report), "SAME of different work is wrong"


def test_drift_of_the_whole_machine_is_no_difference():
    report = check(Simulated(drift=0.01))
    assert not report.missed


def test_a_coarse_clock_fails():
    assert "the clock: its step / shortest block" in missed(check(Simulated(tick=1e-4)))


def test_a_busy_machine_fails_and_is_told_what_to_do():
    report = check(Simulated(busy=0.8))
    assert missed(report) == {"other processes: share of the cores' time"}
    assert "stop what else runs" in tell.page(report)


def test_a_load_makes_verdicts_undecided_rather_than_wrong():
    report = check(Simulated(beside=30.0))
    assert not report.missed
    said = [comparison.verdict for comparison in report.loaded]
    assert said.count(Verdict.CANT_TELL) > len(said) / 2


def test_the_load_runs_beside_its_own_pairs_only_and_leaves_them_a_core():
    simulated = Simulated()
    seen = []
    launch = simulated.launch
    simulated.launch = lambda order: seen.append((simulated.loaded, order.threads)) or launch(order)
    check(simulated)
    assert seen == [(False, 2)] * 6 + [(True, 1)] * 5
    assert not simulated.loaded


def test_with_one_core_the_load_is_left_out_and_that_is_said():
    report = check(Simulated(cores=1))
    assert "A load on another core" not in report.sections
    assert any("no other core" in note for note in report.notes)


def test_each_repetition_is_a_process_with_its_own_number_and_the_same_pairs():
    simulated = Simulated()
    check(simulated)
    without = simulated.orders[1:6]
    assert [order.repetition for order in without] == [0, 1, 2, 3, 4]
    assert len({str(order.pairs) for order in without}) == 1


def test_pairs_beyond_the_time_limit_are_left_out_of_every_process_and_that_is_said():
    simulated = Simulated(cut_after=50)
    report = check(simulated, replace(PLAN, limit=1.0))
    assert len(report.idle) == 50
    assert [len(order.pairs) for order in simulated.orders[1:6]] == [80, 50, 50, 50, 50]
    assert [order.limit for order in simulated.orders[1:6]] == [1.0, None, None, None, None]
    assert any(note.startswith("30 of 80 pairs were left out") for note in report.notes)


def test_a_machine_too_slow_for_one_pair_of_each_kind_is_told_so():
    with pytest.raises(session.CheckFailedError, match="only 1 of 80 pairs"):
        check(Simulated(cut_after=1), replace(PLAN, limit=1.0))


def test_the_document_is_strict_json_with_every_ratio():
    report = check(Simulated(), replace(PLAN, same=8, more=8, loaded=4))
    assert math.isinf(report.resolution.hi), "16 comparisons do not bound a 95 % quantile"
    kept = json.loads(json.dumps(tell.document(report, {"env_id": "e"}), allow_nan=False))
    assert kept["resolution"]["hi"] is None
    assert kept["passed"] is True
    assert len(kept["comparisons"]) == 20
    assert all(len(entry["processes"]) == 5 for entry in kept["comparisons"])
    assert {entry["truth"] for entry in kept["comparisons"]} == {1.0, 1.05}
    assert "third was not asked: it is not here" in kept["notes"]


# -------------------------------------------------------------------------------------------------- questions


def test_questions_are_of_both_kinds_and_of_all_durations_and_families():
    wanted = PLAN.durations()
    assert wanted[0] == pytest.approx(1e-4)
    assert wanted[-1] == pytest.approx(PLAN.longest)
    kernels = [Kernel(family=f, size=round(s / plan.BASE * 1e9)) for s in wanted for f in plan.FAMILIES]
    asked = plan.questions(PLAN, kernels)
    assert [sum(p.truth == t for p in asked.idle) for t in (1.0, 1.05)] == [40, 40]
    assert {p.kernel.family for p in asked.idle} == set(plan.FAMILIES)
    assert {p.truth for p in asked.loaded} == {1.0, 1.05}
    for prefix in (asked.idle[:30], asked.loaded[:10]):  # what a time limit leaves
        assert {p.truth for p in prefix} == {1.0, 1.05}
        assert max(p.kernel.size for p in prefix) > 8 * min(p.kernel.size for p in prefix)


def test_the_checks_say_what_a_sweep_of_few_processes_tells_apart():
    assert plan.QUICK.protocol.processes == Protocol().processes
    assert plan.FULL.protocol.processes > Protocol().processes
    assert (sweep.load(QUICK_SWEEP).protocol.processes, Protocol().processes) == session.FEWER
    report = check(Simulated(between=0.02), replace(PLAN, protocol=replace_processes(10)))
    assert list(report.by_processes) == [3, 5, 10]
    assert report.by_processes[10] == report.resolution
    assert report.by_processes[3].value > report.by_processes[5].value > report.by_processes[10].value
    page = tell.page(report)
    for count, found in report.by_processes.items():
        assert f"  all             in {count:>2} processes  {found.value:.1%} [" in page
    assert plan.FULL.longest == 0.05


def replace_processes(count):
    return PLAN.protocol.model_copy(update={"processes": count})


def test_a_kernel_is_the_one_whose_time_is_nearest():
    found = work.kernels([1e-6, 1e-4], lambda kernel: kernel.size**2 * 1e-8)
    assert [k.family for k in found] == ["matmul", "conv", "copy"] * 2
    for kernel, wanted in zip(found, [1e-6] * 3 + [1e-4] * 3, strict=True):
        assert 0.75 < kernel.size**2 * 1e-8 / wanted < 1.34


def one_round(place, **how):
    def enough(rounds):
        return "enough" if rounds else None

    return Placements(1, 0.01, 1e9).sample(place, enough, lambda calls, stop: timing.sample(calls, stop, **how))


def test_a_time_limit_ends_the_pairs_between_two_of_them():
    simulated = Simulated()
    pair = Pair(kernel=Kernel(family="copy", size=10**6), calls=(2, 2))

    def sample(place):
        return one_round(place, clock=simulated.clock)

    def make(kernel):
        return lambda: simulated.spend(1e-3)

    for limit, count in ((None, 20), (0.1, 5)):
        found = work.time_pairs([pair] * 20, make, sample, limit, clock=simulated.clock)
        assert len(found) == count, limit
    assert sum(t.wall for t in found) == pytest.approx(0.11, rel=0.3)


def test_which_of_two_is_built_first_is_drawn_for_every_pair_and_turned_round_by_the_next_process():
    """Where memory comes to lie depends on what was built before: a fixed order is a difference in all processes."""
    pairs, orders = [Pair(kernel=Kernel(family="copy", size=i), calls=(20, 21)) for i in range(20)], []

    def sample(place):
        orders.append(tuple(place(0)))
        return one_round(place, min_block=0.0)

    for repetition in range(4):
        work.time_pairs(pairs, lambda kernel: lambda: None, sample, None, repetition)
    first, second, third, fourth = (orders[i : i + 20] for i in range(0, 80, 20))
    assert set(first) == set(third) == {("first", "second"), ("second", "first")}
    assert [order[::-1] for order in first] == second
    assert [order[::-1] for order in third] == fourth
    assert first != third


def test_a_callable_does_the_calls_of_its_name_whichever_is_built_first():
    pair, count = Pair(kernel=Kernel(family="copy", size=1), calls=(2, 3)), itertools.count()
    for repetition in range(4):
        made = work.built(pair, lambda kernel: lambda: next(count), repetition, placement=0)
        for name, calls in (("first", 2), ("second", 3)):
            before = next(count)
            made[name]()
            assert next(count) - before == calls + 1


def test_a_random_order_gives_the_findings_back_in_their_own():
    pairs = [Pair(kernel=Kernel(family="copy", size=i + 1), calls=(1, 1)) for i in range(30)]
    orders = []

    def time_them(shuffled):
        orders.append([p.kernel.size for p in shuffled])
        return [Timed(ratio=p.kernel.size, seconds=1, rounds=1, stopped="", wall=1) for p in shuffled]

    for seed in (1, 2):
        assert [t.ratio for t in work.in_random_order(pairs, seed, time_them)] == list(range(1, 31))
    assert orders[0] != orders[1]
