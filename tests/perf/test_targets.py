"""The machinery of ``make targets``, without a clock."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def targets(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("targets")
    sys.modules.pop("targets", None)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.9, 0.8, 1.0), "met"),
        ((1.1, 0.9, 1.3), "can't tell"),
        ((0.95, 0.8, 1.1), "can't tell"),
        ((1.2, 1.1, 1.3), "missed"),
        ((2.0,) + (float("nan"),) * 2, "missed"),
    ],
)
def test_a_target_is_missed_only_when_its_interval_excludes_the_bar(targets, interval, verdict):
    line = targets.Target("t", "s", 1.0, lambda: None).line(targets.Figure(*interval))
    assert line.startswith(verdict)


@pytest.mark.parametrize("path", sorted(HERE.glob("targets_*.py")), ids=lambda path: path.stem)
def test_every_module_of_targets_loads_and_names_its_bars(targets, path):
    found = importlib.import_module(path.stem).TARGETS
    assert found
    assert all(target.bar > 0 and target.name and callable(target.measure) for target in found)


def test_the_interval_of_a_spread_and_of_two_covers_in_95_of_100(targets):
    measure = importlib.import_module("targets_measure")
    rng, covered, both = random.Random(5), 0, 0
    for _ in range(1000):
        ours, theirs = (
            measure.pooled_sd([[rng.gauss(mean, sd) for _ in range(6)] for mean in (0.0, 5.0)]) for sd in (1.0, 4.0)
        )
        found, ratio = measure.sd_interval(*ours), measure.sd_ratio_interval(ours, theirs)
        covered += found.lo <= 1.0 <= found.hi
        both += ratio.lo <= 0.25 <= ratio.hi
    assert all(930 <= count <= 970 for count in (covered, both)), (covered, both)


def test_timing_tasks_are_taken_from_all_over_the_sweep(targets):
    measure = importlib.import_module("targets_measure")
    found = measure.chosen(measure.sweep.load(measure.SWEEP))
    assert len(found) == measure.TASKS
    assert {task.kind for task in found} == {"timing"}
    assert len({task.cases[0].subject for task in found}) > 1


def test_what_the_overhead_leaves_out_is_told_beside_it(targets):
    measure = importlib.import_module("targets_measure")
    task = {"start": 2.0, "build": 1.0, "warmup": 1.0, "discarded": 2.0, "measured": 3.0, "overhead": 1.0}
    said = measure.apart([task, task])
    assert "50.0% with the first calls of visits" in said
    for part in ("start 20.0%", "build 10.0%", "warmup 10.0%", "discarded 20.0%", "measured 30.0%", "overhead 10.0%"):
        assert part in said


def test_the_parents_use_is_that_of_each_workers_life(targets):
    measure = importlib.import_module("targets_measure")
    looks = {1: [(0.0, 5.0), (1.0, 5.5), (10.0, 5.1)], 2: [(20.0, 6.0), (30.0, 6.2)], 3: [(40.0, 7.0)]}
    assert measure.shares_used(looks) == pytest.approx([0.01, 0.02])


def test_only_workers_that_time_are_looked_at(targets, monkeypatch):
    """A forker's command ends with the name of the worker, too."""
    from types import SimpleNamespace

    measure = importlib.import_module("targets_measure")
    monkeypatch.setattr(measure, "LOOK", 0.0)
    children = [
        SimpleNamespace(pid=1, cmdline=lambda: ["python", "-m", "bench.task.worker", "reply"]),
        SimpleNamespace(
            pid=2, cmdline=lambda: ["python", "-m", "bench.task.forker", "torch._dynamo", "bench.task.worker"]
        ),
    ]
    parent = SimpleNamespace(children=lambda: children, cpu_times=lambda: SimpleNamespace(user=1.0, system=0.5))
    lives = iter([True, True, False])
    looks = measure.looks_at(parent, lambda: next(lives))
    assert {pid: [used for _, used in of] for pid, of in looks.items()} == {1: [1.5, 1.5]}
