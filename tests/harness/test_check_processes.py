"""The processes of the self-test, really started: what they answer, and how they end. No figure of theirs is judged."""

import os
import time

import psutil
import pytest

from bench.check import launch, peers, session
from bench.check.messages import Kernel, Order, Pair
from bench.check.pytest_timer import pytest_benchmark
from bench.plan.sweep import Protocol

SMALL = Kernel(family="copy", size=4)
BRIEF = Protocol(processes=2, budget=0.02)


def order(**what):
    return Order(device="cpu", threads=1, repetition=1, protocol=BRIEF, **what)


@pytest.fixture(scope="module")
def answered():
    pairs = [Pair(kernel=SMALL, calls=(2, 2)), Pair(kernel=Kernel(family="matmul", size=16), calls=(2, 3))]
    asked = order(pairs=pairs, peers=[SMALL], sequential=[(pairs[0], 0.01)], durations=[1e-6, 1e-5])
    with launch.local("cpu") as machine:
        return machine.launch(asked)


def test_a_fresh_process_times_pairs_by_the_harness_and_by_the_others(answered):
    assert len(answered.pairs) == 2
    assert all(timed.rounds >= 8 and timed.ratio > 0 and timed.wall > 0 for timed in answered.pairs)
    assert len(answered.sequential) == 1
    assert set(answered.peers) == {"torch.utils.benchmark", "pytest-benchmark"}
    assert answered.absent == {"triton do_bench": "it times CUDA devices only"}
    assert all(0.01 < ratio < 100 for ratios in answered.peers.values() for ratio in ratios)


def test_it_finds_a_kernel_of_each_family_for_each_duration(answered):
    assert [kernel.family for kernel in answered.kernels] == ["matmul", "conv", "copy"] * 2


def test_an_order_that_fails_names_the_cause_in_one_line():
    broken = order(pairs=[Pair(kernel=Kernel(family="copy", size=-1), calls=(1, 1))])
    with launch.local("cpu") as machine, pytest.raises(session.CheckFailedError) as caught:
        machine.launch(broken)
    assert "exit code 1" in str(caught.value)
    assert "negative dimension" in str(caught.value)


def test_the_load_works_while_its_block_lasts_and_ends_with_it():
    before = set(psutil.Process().children())
    with launch.local("cpu") as machine:
        with machine.load():
            (load,) = set(psutil.Process().children()) - before
            if hasattr(os, "sched_setaffinity"):
                _until(lambda: load.cpu_affinity() == [max(os.sched_getaffinity(0))])
            used = sum(load.cpu_times()[:2])
            _until(lambda: sum(load.cpu_times()[:2]) > used + 0.1)
        assert not load.is_running()


def _until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about in a minute")


def test_a_load_that_dies_costs_the_check():
    with launch.local("cpu") as machine:
        before = set(psutil.Process().children())
        load = machine.load()
        load.__enter__()
        (process,) = set(psutil.Process().children()) - before
        process.kill()
        _until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(session.CheckFailedError, match="ended before its time"):
            load.__exit__(None, None, None)


def test_pytest_benchmark_calls_the_very_callable_and_waits_for_the_device():
    calls, waits = [], []
    seconds = pytest_benchmark(lambda: waits.append(1), 0.001)(lambda: calls.append(1))
    assert len(calls) == len(waits) >= 5
    assert seconds > 0


def test_a_callable_that_raises_is_not_timed_by_pytest_benchmark():
    with pytest.raises(RuntimeError, match="no time"):
        pytest_benchmark(lambda: None, 0.001)(lambda: 1 / 0)


def test_other_timers_are_asked_in_turn_beside_ours():
    asked = []

    def timer(name, seconds):
        return lambda call: asked.append(name) or seconds

    found = peers.over_ours(
        [len, len], timer("ours", 2.0), {"a": timer("a", 3.0), "b": timer("b", 1.0)}, 0, repeats=4
    )
    assert found == {"a": [1.5, 1.5], "b": [0.5, 0.5]}
    turns = [asked[i : i + 3] for i in range(0, len(asked), 3)]
    assert all(sorted(turn) == ["a", "b", "ours"] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1, "the order is drawn anew"


def test_one_after_the_other_is_the_second_over_the_first():
    times = iter([2.0, 3.0])
    assert peers.one_after_the_other(len, len, lambda call: next(times)) == 1.5
