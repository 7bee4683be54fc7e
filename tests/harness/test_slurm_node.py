"""A job on its node: what it does of its orders, and the words of SLURM's commands."""

import time
from dataclasses import replace

import pytest
from clusters import do, engine, reply_to

from bench.errors import UsageError
from bench.launch import spool, task
from bench.launch.cluster import Place, Seen, parse, said_by_sbatch
from bench.launch.engine import Attempt
from bench.launch.spool import Spool


class Hands:
    """An engine that answers at once."""

    alone = frozenset({"timing"})

    def __init__(self, width=2, clock=None):
        self._width, self.orders, self.most = width, [], 0
        self._open = []

    def width(self, kind):
        return self._width

    def submit(self, orders):
        self.orders += orders
        self._open += orders
        self.most = max(self.most, len(self._open))

    def next(self):
        order = self._open.pop(0)
        return Attempt(
            order=order, env_id="e", ending="replied", started="", wall=1.0, reply=reply_to(order.request),
            log=spool.Path("x"),
        )  # fmt: skip

    def stop(self): ...


def asked(orders):
    return [spool.Asked.of(order) for order in orders]


def test_a_job_does_its_orders_as_many_at_once_as_the_machine_takes(orders, tmp_path):
    kept, hands = Spool(tmp_path), Hands(width=2)
    kept.open()
    task.work(asked(orders[:4]), hands, kept, cores=8, ends=time.monotonic() + 1e6)
    assert hands.most == 2
    assert kept.answered() == {one.key for one in asked(orders[:4])}


def test_a_job_leaves_what_could_not_end_in_its_time_but_begins_one(orders, tmp_path):
    kept, hands = Spool(tmp_path), Hands(width=1)
    kept.open()
    task.work(asked(orders[:3]), hands, kept, cores=8, ends=time.monotonic() + 60)  # a task may take 120 s
    assert [kept.answer(one.key).ending for one in asked(orders[:3])] == ["replied", "left", "left"]


def test_all_cores_are_those_of_the_node_that_measures(orders, tmp_path):
    kept, hands = Spool(tmp_path), Hands()
    kept.open()
    task.work(asked(orders[4:5]), hands, kept, cores=96, ends=time.monotonic() + 1e6)
    assert hands.orders[0].request.threads == 96, "the parent counted 4, on a login node"


def test_a_job_that_starts_again_does_what_is_left(cluster, orders, tmp_path, monkeypatch):
    engine(cluster, tmp_path).submit(orders[:3])
    do(tmp_path, cluster, only=[orders[0].task_id])
    done = []
    monkeypatch.setattr(task, "work", lambda asked, *rest: done.extend(one.task_id for one in asked))
    task.main(tmp_path, cluster.arrays[0][0], 0)
    assert done == [orders[1].task_id, orders[2].task_id]
    (described,) = (tmp_path / "envs").glob("*.json")
    assert f'"env_id": "{described.stem}"' in described.read_text()


def test_a_node_with_other_sources_refuses(cluster, orders, tmp_path, monkeypatch):
    own = engine(cluster, tmp_path)
    own.submit(orders[:1])
    monkeypatch.setattr(task, "revision", lambda request: "0123456789ab")
    task.main(tmp_path, cluster.arrays[0][0], 0)
    with pytest.raises(UsageError, match=r"other sources .* 0123456789ab"):
        own.next()


def test_a_node_without_room_ends_the_run_and_nothing_is_held_against_its_tasks(
    cluster, orders, tmp_path, monkeypatch
):
    def full(*args):
        raise UsageError("t.log cannot be written (No space left on device): what was finished before is kept")

    own = engine(cluster, tmp_path)
    own.submit(orders[:2])
    monkeypatch.setattr(task, "work", full)
    task.main(tmp_path, cluster.arrays[0][0], 0)
    with pytest.raises(UsageError, match=r"measures nothing: t.log cannot be written .No space"):
        own.next()


def test_a_process_that_ends_because_its_job_is_ended_has_not_died(orders, tmp_path, monkeypatch):
    """SIGTERM comes to all processes of a job, and to ours perhaps a moment later than to one that measures."""

    def ended_meanwhile(seconds):
        raise SystemExit(143)

    kept = Spool(tmp_path)
    kept.open()
    (one,) = asked(orders[:1])
    died = Attempt(
        order=one.order, env_id="e", ending="died", started="", wall=1.0, code=-15, log=spool.Path("x")
    )  # fmt: skip
    monkeypatch.setattr(task.time, "sleep", ended_meanwhile)
    with pytest.raises(SystemExit):
        task._keep(kept, one, died)
    assert kept.answered() == set()
    task._keep(kept, one, replace(died, code=-9))
    assert kept.answer(one.key).code == -9


@pytest.mark.parametrize("name", ["spool", "envs", "logs"])
def test_a_link_in_a_run_folder_leads_no_job_out_of_it(cluster, orders, tmp_path, name):
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    folder.mkdir()
    (folder / name).symlink_to(outside)
    own = engine(cluster, folder)

    def a_job():
        own.submit(orders[:1])
        task.main(folder, cluster.arrays[0][0], 0)
        own.next()

    with pytest.raises(UsageError, match=f"run/{name} is a link"):
        a_job()
    assert list(outside.iterdir()) == []


def test_squeues_lines_are_read_with_and_without_an_array():
    text = "12|3|RUNNING|node[1-2]|bench_a\n13|N/A|PENDING||bench_b\n14|0|FAILED|n|a|b\n"
    assert parse(text) == {
        Place("bench_a", 3): Seen("12_3", "RUNNING", "node[1-2]"),
        Place("bench_b", 0): Seen("13", "PENDING", ""),
        Place("a|b", 0): Seen("14_0", "FAILED", "n"),
    }


def test_what_sbatch_says_is_one_line():
    said = "Traceback\nsbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed\n"
    assert said_by_sbatch(said) == "invalid partition specified: x Batch job submission failed"
    assert said_by_sbatch("one\ntwo\n") == "two"
