"""The engine over a cluster, with one that a test plays: what is queued, what comes back, what a successor finds."""

import sys

from clusters import QUICK, do, engine, reply_to

from bench.launch import slurm
from bench.launch.cluster import Place
from bench.launch.engine import Crumb, Order
from bench.launch.spool import Spool


def test_static_tasks_share_a_job_and_a_timing_task_has_its_own(cluster, orders, tmp_path):
    engine(cluster, tmp_path).submit(orders)
    (_, static, _), (_, timing, parameters) = cluster.arrays
    assert (len(static), len(timing)) == (1, 2)
    name = cluster.arrays[1][0]
    assert timing[1] == [sys.executable, "-m", "bench.launch.task", str(tmp_path), name, "1"]
    assert parameters["exclusive"] is True
    assert parameters["job_name"] == name


def test_each_kind_of_hardware_has_arrays_of_its_own(cluster, orders, tmp_path):
    profile = {**QUICK, "hardware": {"a": {"constraint": "cpuA"}, "b": {"constraint": "cpuB"}}}
    both = [Order(o.task_id, 1, o.request, kind) for kind in ("a", "b") for o in orders[:4]]
    engine(cluster, tmp_path, profile=profile).submit(both)
    assert [parameters["constraint"] for *_, parameters in cluster.arrays] == ["cpuA", "cpuB"]


def test_a_long_list_of_jobs_is_cut_into_arrays_that_slurm_takes(cluster, orders, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "_ARRAY", 3)
    engine(cluster, tmp_path, profile={**QUICK, "bundle": {"static": 1}}).submit(orders[:4])
    assert [len(commands) for _, commands, _ in cluster.arrays] == [3, 1]


def test_what_does_not_fit_into_the_queue_is_gathered_into_arrays(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path, profile={**QUICK, "at_once": 4, "bundle": {"static": 1}})
    assert own.width("static") == 4
    own.submit(orders[:4])
    do(tmp_path, cluster, only=[order.task_id for order in orders[:2]])
    own.next()
    own.submit(orders[4:5])
    assert len(cluster.arrays) == 1, "one alone is not worth an array while three are in the queue"
    own.next()
    own.submit(orders[5:])
    assert [len(commands) for _, commands, _ in cluster.arrays] == [4, 2]


def test_answers_come_back_as_attempts_and_are_kept_until_the_next_is_asked_for(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders[:2])
    crumb = Crumb(orders[0].request.case_list()[0].id, "build")
    do(tmp_path, cluster, "died", only=[orders[0].task_id], code=-11, crumb=crumb, said="boom")
    first = own.next()
    assert (first.order.task_id, first.ending, first.code, first.said) == (orders[0].task_id, "died", -11, "boom")
    assert first.crumb == crumb
    assert len(Spool(tmp_path).answered()) == 1, "until it is in the store, it is here"
    do(tmp_path, cluster, only=[orders[1].task_id])
    second = own.next()
    assert second.ending == "replied"
    assert second.reply == reply_to(orders[1].request)
    assert len(Spool(tmp_path).answered()) == 1, "the first is in the store by now"
    cluster.end()
    own.stop()
    assert list(Spool(tmp_path).folder.iterdir()) == []


def test_a_successor_collects_answers_and_submits_nothing_that_still_runs(cluster, orders, tmp_path):
    engine(cluster, tmp_path, profile={**QUICK, "bundle": {"static": 2}}).submit(orders)  # and is killed
    arrays = len(cluster.arrays)
    do(tmp_path, cluster, only=[orders[0].task_id])
    static = cluster.arrays[0][0]
    cluster.jobs[Place(static, 1)] = "NODE_FAIL"  # that of the third and fourth
    own = engine(cluster, tmp_path, profile={**QUICK, "bundle": {"static": 2}})
    own.submit(orders)
    assert own.next().order.task_id == orders[0].task_id
    assert len(cluster.arrays) == arrays + 1
    new = Spool(tmp_path).job(cluster.arrays[-1][0], 0)
    assert [asked.task_id for asked in new.orders] == [orders[2].task_id, orders[3].task_id]
    do(tmp_path, cluster)
    rest = {own.next().order.task_id for _ in range(5)}
    assert rest == {order.task_id for order in orders[1:]}
    assert len(cluster.arrays) == arrays + 1
    cluster.end()
    own.stop()
    assert list(Spool(tmp_path).folder.iterdir()) == [], "what it took over is its own to clear away"


def test_a_job_that_is_started_again_after_its_answer_was_stored_is_not_heard_twice(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders[:2])
    do(tmp_path, cluster)
    for _ in range(2):
        own.next()
    cluster.end("PENDING")  # its node was lost as it ended
    do(tmp_path, cluster)
    own.stop()
    assert cluster.cancelled == ["1_0"]
    assert list(Spool(tmp_path).folder.iterdir()) == []


def test_an_answer_that_the_store_has_is_not_given_again(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders[:1])
    do(tmp_path, cluster)
    attempt = own.next()  # stored, then killed
    line = {"task_id": attempt.order.task_id, "started": attempt.started, "wall": 1.0, "env_id": "here"}
    again = engine(cluster, tmp_path, stored=[line])
    again.submit([])
    assert Spool(tmp_path).answered() == set()
    cluster.end()
    again = engine(cluster, tmp_path)
    again.submit(orders[:1])
    assert len(cluster.arrays) == 2, "to fail once is no reason never to be measured again"


def test_a_fresh_run_takes_no_earlier_answer(cluster, orders, tmp_path):
    engine(cluster, tmp_path).submit(orders[:1])
    do(tmp_path, cluster)
    engine(cluster, tmp_path, fresh=True).submit(orders[:1])
    assert len(cluster.arrays) == 2


def test_another_request_is_another_order_even_of_the_same_task_and_attempt(cluster, orders, tmp_path):
    engine(cluster, tmp_path).submit(orders[:1])
    do(tmp_path, cluster)
    other = orders[0].request.model_copy(update={"metrics": ["macs"]})
    engine(cluster, tmp_path).submit([Order(orders[0].task_id, 1, other)])
    assert len(cluster.arrays) == 2
