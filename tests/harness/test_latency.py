"""Every timer on a device that is a clock and a log, and one request of each through the worker: no real time."""

import gc
import weakref

import pytest
import torch
from fake_gpu import FakeGpu

from bench.machine import caches, devices
from bench.machine.devices import Cpu, Cuda
from bench.measure import latency
from bench.plan.sweep import Protocol
from bench.task import timing as timing_task
from bench.task.protocol import Request
from phnn import timing

WARM, COLD = 1e-4, 3e-4  # seconds of the kernel


def timed(gpu, timer, calls, device=None, budget=1.0, precision=0.01):
    device = device or Cuda(gpu, gpu.full)
    return latency.measure(
        lambda _: {name: latency.prepared(call, timer, device) for name, call in calls.items()},
        precision=precision, budget=budget, min_block=1e-3, seed=0, device=device, timer=timer, clock=gpu.clock,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("timer", "seconds"),
    [
        ("host_warm", WARM + 1e-5 / 10),  # the launches hide behind the kernels, all but a block's first
        ("host_cold", COLD + 1e-5),
        ("device_warm", WARM + 1e-5 / 10),
        ("device_cold", COLD),  # launched while the device sweeps
        ("graph", WARM),
    ],
)
def test_each_timer_tells_the_seconds_that_it_is_named_for(timer, seconds):
    gpu = FakeGpu()
    samples = timed(gpu, timer, {"a": gpu.kernel("a", WARM, COLD), "b": gpu.kernel("b", 2 * WARM, 2 * COLD)})
    assert samples.seconds("a") == pytest.approx([seconds] * len(samples.rounds), rel=0.02)
    assert samples.stopped == "precision"
    assert samples.settled == {"a": True, "b": True}


def test_cold_timers_sweep_before_every_single_call():
    for timer in ("host_cold", "device_cold"):
        gpu = FakeGpu()
        rounds = len(timed(gpu, timer, {"a": gpu.kernel("a", WARM, COLD)}).rounds)
        assert gpu.log[-2 * rounds :] == ["sweep", "a"] * rounds
        assert gpu.buffer.bytes == 2 * gpu.cache


def test_warm_timers_sweep_nothing():
    for timer in ("host_warm", "device_warm", "graph"):
        gpu = FakeGpu()
        timed(gpu, timer, {"a": gpu.kernel("a", WARM, COLD)})
        assert "sweep" not in gpu.log


def test_a_graph_launches_once_what_a_call_launches_many_times():
    """Fifty kernels shorter than a launch: alone they wait for the host, as a graph they do not."""

    def fifty(gpu):
        kernels = [gpu.kernel("k", 1e-6) for _ in range(50)]

        def call():
            for kernel in kernels:
                kernel()

        return call

    slow, fast = FakeGpu(), FakeGpu()
    launched = timed(slow, "device_warm", {"a": fifty(slow)}).seconds("a")[0]
    replayed = timed(fast, "graph", {"a": fifty(fast)}).seconds("a")[0]
    assert launched == pytest.approx(50 * 1e-5, rel=0.02)
    assert replayed == pytest.approx(50 * 1e-6, rel=0.02)


def test_a_budget_that_is_spent_ends_the_rounds_and_is_the_reason():
    gpu = FakeGpu()
    kernels = [gpu.kernel("a", WARM), gpu.kernel("a", 2 * WARM)]

    def unsteady():
        kernels[len(gpu.log) // 16 % 2]()

    samples = timed(gpu, "host_warm", {"a": unsteady}, budget=0.1, precision=1e-6)
    assert samples.stopped == "budget"
    assert 0.1 <= gpu.host <= 0.25


def test_the_warm_up_of_a_chunk_takes_no_longer_than_its_budget():
    gpu = FakeGpu()
    left = {"seconds": 1.0}

    def ever_faster():
        gpu.host += left["seconds"]
        left["seconds"] *= 0.98

    samples = timed(gpu, "host_warm", dict.fromkeys("abc", ever_faster), budget=9.0)
    assert samples.settled == dict.fromkeys("abc", False)
    assert samples.spent.warmup <= 9.0 + 3 * 4, "three calls at least, and the last may end late"


def test_looking_at_the_rounds_takes_a_small_share_of_them(monkeypatch):
    """All medians anew after every fourth round would take longer than the rounds."""
    looks = []
    monkeypatch.setattr(latency, "half_width", lambda values: looks.append(len(values)) or 1.0)
    stop = latency.stop_rule(0.01, 1e9, clock=lambda: 0.0)
    rounds = []
    for _ in range(4000):
        assert stop(rounds) is None
        rounds.append(timing.Round({"a": 1.0}, {"a": 1}))
    assert looks[0] == latency.MIN_ROUNDS
    assert sum(looks) <= 4000 * 25


def test_wall_time_is_split_without_a_rest():
    spent = timing.Spent(warmup=1.0, discarded=2.0, measured=8.0)
    parts = latency.walltime(3.0, 4.0, spent, timed=20.0, checks=6.0, energy=50.0)
    assert parts == {
        "start": 3.0, "build": 4.0, "warmup": 1.0, "discarded": 2.0, "measured": 8.0, "overhead": 2.0, "checks": 6.0,
        "energy": 50.0,
    }  # fmt: skip
    assert sum(parts.values()) == 20.0 + 6.0 + 50.0
    assert latency.overhead_share(parts) == pytest.approx(8 / 16)
    assert latency.overhead_share(parts, "start", "build", "warmup") == pytest.approx(10 / 18), (
        "first calls of visits in"
    )


def test_garbage_is_collected_between_visits_and_never_while_something_is_timed():
    """A call that leaves cycles behind: none is collected within a block, and none is left when the rounds are over."""
    gpu, alive, seen = FakeGpu(), weakref.WeakSet(), []

    class Cycle:
        def __init__(self):
            self.itself = self

    def litter():
        for _ in range(2000):  # twice what the collector runs after
            alive.add(Cycle())
        seen.append((gc.isenabled(), len(alive)))
        gpu.host += 1e-3

    samples = timed(gpu, "host_warm", {"a": litter, "b": gpu.kernel("b", 2e-3)})
    assert not any(enabled for enabled, _ in seen)
    assert {count for _, count in seen[-2 * len(samples.rounds) :]} == {2000, 4000}, (
        "the discarded call, the timed one"
    )
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


# ------------------------------------------------------------------------------------------------- real devices


def cores(root, *last_levels):
    """A /sys of cores that share each of the last-level caches, two and two; a size that the system does not tell is
    an empty file."""
    for core in range(2 * len(last_levels)):
        shared = f"{core // 2 * 2}-{core // 2 * 2 + 1}"
        for index, (level, size, sharers) in enumerate([(1, "48K", core), (3, last_levels[core // 2], shared)]):
            folder = root / f"cpu{core}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for file, text in (("level", level), ("type", "Unified"), ("size", size), ("shared_cpu_list", sharers)):
                (folder / file).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("last_levels", "swept"),
    [(["512K"], 1 << 20), (["512K", "512K"], 2 << 20), (["512K", ""], 1 << 20), ([""], 4 * (48 << 10))],
    ids=["one", "two", "one without a size", "only the cores' own are told"],
)
def test_a_cpu_sweeps_twice_all_its_last_level_caches(tmp_path, last_levels, swept):
    """Each thread reads its part: with one cache's worth for all of them, each of two would see half of what fills it."""
    root = cores(tmp_path, *last_levels)
    cpu = Cpu(lambda: caches.last_level(root))
    cpu.chill()
    assert cpu._buffer.nbytes == swept


def test_a_cache_that_the_system_does_not_tell_is_taken_for_a_large_one(tmp_path):
    cpu = Cpu(lambda: caches.last_level(tmp_path))
    cpu.chill()
    assert cpu._buffer.nbytes == 2 * devices._UNKNOWN_CACHE


@pytest.mark.parametrize("timer", ["graph", "device_warm", "device_cold"])
def test_a_cpu_has_no_events_and_no_graphs(timer):
    gpu = FakeGpu()
    with pytest.raises(ValueError, match=r"CUDA device: on a CPU take timer host_warm or host_cold"):
        timed(gpu, timer, {"a": lambda: None}, device=Cpu())


class FakeDevice(Cuda):
    """The fake GPU beside tensors that live on the CPU."""

    type = "cpu"


@pytest.mark.parametrize("timer", ["host_warm", "host_cold", "device_warm", "device_cold", "graph"])
def test_the_worker_times_as_the_cases_say_and_tells_where_its_seconds_went(timer, planned, monkeypatch):
    gpu = FakeGpu()
    kernel = gpu.kernel("k", 1e-3)
    real_build = timing_task.build

    def build(case, device, controlled):
        subject = real_build(case, device, controlled)
        forward = subject.call
        subject.call = lambda: (forward(), kernel())
        return subject

    monkeypatch.setattr(timing_task, "build", build)
    monkeypatch.setattr(timing_task.devices, "find", lambda name: FakeDevice(gpu, gpu.full))
    monkeypatch.setattr(timing_task.watch, "age", gpu.clock)
    measure = latency.measure
    monkeypatch.setattr(latency, "measure", lambda place, **how: measure(place, **how, clock=gpu.clock))
    request = Request(
        kind="timing", cases=[p.case.factors | {"timer": timer} for p in planned], metrics=["latency"], repetition=1,
        device="cuda", threads=1, protocol=Protocol(budget=0.5, precision=0.5, placements=1),
    )  # fmt: skip
    results = timing_task.measured(request)
    assert [r.status for r in results] == ["ok"] * 4
    for result in results:
        assert result.seconds == pytest.approx([1e-3] * 8, rel=0.02)
        assert (result.details["stopped"], result.details["settled"]) == ("precision", True)
        spent = result.details["walltime"]
        assert sum(spent.values()) == pytest.approx(gpu.host)
        assert spent["overhead"] == pytest.approx(0.0)
        waited = 5e-4 if timer == "device_cold" else 0.0  # for the sweep in front of the events
        assert spent["measured"] == pytest.approx(4 * 8 * (1e-3 + waited), rel=0.02)
    assert ("sweep" in gpu.log) == timer.endswith("cold")


def timing_request(planned, repetition):
    return Request(
        kind="timing", cases=[p.case.factors for p in planned], metrics=["latency"], repetition=repetition,
        device="cpu", threads=1, protocol=Protocol(budget=0.01, precision=0.5),
    )  # fmt: skip


def test_what_is_built_first_is_drawn_and_turned_round_by_the_next_process(planned, monkeypatch):
    """Where memory comes to lie depends on what was built before: a fixed order is a bias that all processes share."""
    orders, warmed = [], []
    real_build, real_measure = timing_task.build, latency.measure
    monkeypatch.setattr(
        timing_task, "build", lambda case, *args: orders[-1].append(case.id) or real_build(case, *args)
    )
    monkeypatch.setattr(
        latency, "measure", lambda place, **how: warmed.append(list(place(0))) or real_measure(place, **how)
    )
    for repetition in range(4):
        orders.append([])
        results = timing_task.measured(timing_request(planned, repetition))
        assert [r.case_id for r in results] == [p.case.id for p in planned]
    assert orders[1] == orders[0][::-1]
    assert orders[3] == orders[2][::-1]
    assert len({order[0] for order in orders}) > 1, "the baseline, too, is built at any place"
    assert warmed == orders


@pytest.mark.parametrize("room", [3, 1])
def test_without_memory_for_all_the_last_of_a_chunk_do_without_and_never_its_baseline(planned, monkeypatch, room):
    """Whatever the order that is drawn: a chunk without its baseline has no ratio."""
    alive, real_build = weakref.WeakSet(), timing_task.build

    def build(case, *args):
        if len(alive) >= room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        subject = real_build(case, *args)
        alive.add(subject.module)
        return subject

    monkeypatch.setattr(timing_task, "build", build)
    for repetition in range(4):
        results = timing_task.measured(timing_request(planned, repetition))
        assert [r.status for r in results] == ["ok"] * room + ["oom"] * (4 - room)
        assert planned[0].case.is_baseline
        gc.collect()
