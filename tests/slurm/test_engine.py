"""The engine on a real SLURM: orders survive what befalls jobs and nodes, and nothing survives its end."""

import time

import pytest

from bench.launch import profile
from bench.launch.engine import Order
from bench.launch.slurm import Slurm
from bench.metrics import METRICS
from bench.plan import expansion
from bench.plan import sweep as sweeps
from bench.plan.case import tasks
from bench.task.protocol import Request

pytestmark = pytest.mark.system("slurmctld")


@pytest.fixture
def orders(files):
    loaded = sweeps.load(files[0])
    kinds = {name: metric.task for name, metric in METRICS.items()}
    made = tasks(expansion.expand(loaded), 2, kinds, {})
    return [Order(t.id, 1, Request.of(t, "cpu", 7, loaded.protocol, None)) for t in made]


@pytest.fixture
def engine(files, tmp_path):
    made = Slurm(tmp_path / "run", profile.load(files[1]))
    yield made
    made.stop()


def on(kind, orders):
    return [Order(order.task_id, 1, order.request, kind) for order in orders]


# the first two befall a whole run too, in test_run
in_full = pytest.mark.skipif("not config.getoption('--full')", reason="a part of what test_run does: --full runs it")


@in_full
def test_a_job_that_is_cancelled_is_lost_and_leaves_no_process(cluster, engine, orders):
    engine.submit(on("small", orders[2:3]))
    job = cluster.running("node1")
    cluster.do("scancel", job)
    lost = engine.next()
    assert lost.ending == "lost"
    assert "ended as CANCELLED" in lost.said
    engine.submit([lost.order])
    assert engine.next().ending == "replied"


@in_full
def test_what_ran_on_a_node_that_was_lost_runs_again_when_there_is_one(cluster, engine, orders):
    engine.submit(on("large", orders[2:3]))
    job = cluster.running("node2")
    cluster.lose("node2")
    cluster.wait(lambda: (job, "PENDING") in {(j, state) for j, state, *_ in cluster.jobs()})
    time.sleep(2 * engine.profile.grace)  # it is pending, not lost
    cluster.bring_back("node2")
    attempt = engine.next()
    assert (attempt.ending, attempt.order.attempt) == ("replied", 1)
    assert {j for j, *_ in cluster.jobs() if j.startswith(job)} == {job}, "the same job: SLURM started it again"


def test_a_job_that_is_preempted_starts_again_and_nothing_is_held_against_its_task(cluster, engine, orders):
    engine.submit(on("small", orders[2:3]))
    job = cluster.running("node1")
    urgent = ("--partition=urgent", "--constraint=cpuA", "--output=/dev/null", "--wrap=sleep 3")
    cluster.do("sbatch", "--parsable", *urgent)
    cluster.wait(lambda: (job, "PENDING") in {(j, state) for j, state, *_ in cluster.jobs()})
    attempt = engine.next()
    assert (attempt.ending, attempt.order.attempt) == ("replied", 1)
    assert {j for j, *_ in cluster.jobs() if j.startswith(job)} == {job}, "the same job: SLURM started it again"


def test_stopping_ends_all_jobs_and_the_processes_that_measure(cluster, engine, orders):
    engine.submit(on("small", orders[2:]))
    cluster.running("node1")
    engine.stop()
    assert {state for _, state, *_ in cluster.jobs()} <= {"CANCELLED", "COMPLETED", "FAILED"}
    cluster.wait(lambda: not cluster.workers(), 10)
