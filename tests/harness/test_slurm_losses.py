"""What befalls jobs of a cluster that a test plays: lost, requeued, refused, silent, cancelled, damaged."""

import time

import pytest
from clusters import QUICK, Played, do, engine

from bench.errors import UsageError
from bench.launch import spool
from bench.launch.cluster import Seen
from bench.launch.engine import Order
from bench.launch.spool import Spool


def test_an_order_whose_job_vanished_is_lost_and_has_a_job_of_its_own_then(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders[:4])
    cluster.end("NODE_FAIL")
    lost = [own.next() for _ in range(4)]
    assert {a.ending for a in lost} == {"lost"}
    assert "job 1_0 on node1 ended as NODE_FAIL" in lost[0].said
    own.submit([a.order for a in lost])
    assert len(cluster.arrays[-1][1]) == 4


def test_a_job_that_is_requeued_is_waited_for(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path, profile={**QUICK, "grace": 0.05})
    own.submit(orders[:1])
    states = iter(["PREEMPTED", "PENDING", "RUNNING"])

    def queue():
        state = next(states, None)
        if state is None:
            do(tmp_path, cluster)
        return {place: Seen("1_0", state or "COMPLETED", "") for place in cluster.jobs}

    cluster.queue = queue
    assert own.next().ending == "replied"


def test_an_answer_may_be_seen_later_than_the_end_of_its_job(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path, profile={"poll": 0.01, "grace": 30.0})
    own.submit(orders[:1])
    cluster.end()
    looks = []

    def queue():
        looks.append(time.monotonic())
        if len(looks) == 3:
            do(tmp_path, cluster)
        return Played.queue(cluster)

    cluster.queue = queue
    assert own.next().ending == "replied"


def test_a_silent_controller_loses_nothing_and_is_told_once(cluster, orders, tmp_path):
    told = []
    own = engine(cluster, tmp_path, tell=told.append)
    own.submit(orders[:1])
    cluster.answers, looks = False, []

    def queue():
        looks.append(1)
        if len(looks) == 5:
            do(tmp_path, cluster)

    cluster.queue = queue
    assert own.next().ending == "replied"
    assert len(told) == 1
    assert "squeue does not answer" in told[0]


def test_what_a_job_had_no_time_for_is_queued_again_unseen(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders[:2])
    do(tmp_path, cluster, "left", only=[orders[1].task_id])
    do(tmp_path, cluster, only=[orders[0].task_id])
    assert own.next().order.task_id == orders[0].task_id
    cluster.end()
    ended = []

    def queue():
        if len(cluster.arrays) == 2 and not ended:
            ended.append(1)
            do(tmp_path, cluster, only=[orders[1].task_id])
        return Played.queue(cluster)

    cluster.queue = queue
    assert own.next().order.task_id == orders[1].task_id
    assert len(cluster.arrays) == 2


def test_a_node_that_refuses_ends_the_run_with_its_reason(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders[:1])
    do(tmp_path, cluster, "refused", said="it has other sources")
    with pytest.raises(UsageError, match="n1 measures nothing: it has other sources"):
        own.next()


def test_machines_that_differ_are_not_one_kind_of_hardware(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders[:2])
    do(tmp_path, cluster, only=[orders[0].task_id])
    do(tmp_path, cluster, only=[orders[1].task_id], env_id="there")
    own.next()
    with pytest.raises(UsageError, match="n1 is there, but others were here: name one kind of machine"):
        own.next()


def test_nor_are_those_of_today_and_those_in_the_store(cluster, orders, tmp_path):
    profile = {**QUICK, "hardware": {"a": {}, "b": {}}}
    line = {"task_id": "x", "started": "y", "wall": 1.0, "env_id": "there", "hardware": "a"}
    own = engine(cluster, tmp_path, profile=profile, stored=[line])
    own.submit([Order(o.task_id, 1, o.request, kind) for o, kind in zip(orders, "ba", strict=False)])
    do(tmp_path, cluster)
    assert own.next().order.hardware == "b"
    with pytest.raises(UsageError, match="for hardware 'a' is here, but others were there"):
        own.next()


@pytest.mark.parametrize(("tasks_of_job", "ending", "kills"), [(1, "died", 1), (2, "lost", 0)])
def test_a_job_killed_for_want_of_memory_tells_of_its_task_if_it_has_no_other(
    cluster, orders, tmp_path, tasks_of_job, ending, kills
):
    own = engine(cluster, tmp_path)
    own.submit(orders[:tasks_of_job])
    cluster.end("OUT_OF_MEMORY")
    attempt = own.next()
    assert (attempt.ending, attempt.oom_kills) == (ending, kills)


def test_jobs_that_end_without_ever_measuring_stop_the_run(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path, profile={**QUICK, "bundle": {"static": 1}})
    own.submit(orders[:4])
    for name, *_ in cluster.arrays:
        for index in range(4):
            (tmp_path / "spool" / name / f"1_{index}_0_log.err").write_text("No module named torch\n")
    cluster.end("FAILED")
    assert own.next().ending == own.next().ending == "lost"
    with pytest.raises(UsageError, match="end before they measure anything: .* No module named torch; see "):
        own.next()


def test_what_sbatch_refuses_at_first_is_the_users_to_mend_and_later_is_asked_again(cluster, orders, tmp_path):
    told = []
    own = engine(cluster, tmp_path, tell=told.append)
    cluster.refuses = ["invalid partition specified: gpus"]
    with pytest.raises(UsageError, match=r"sbatch takes no jobs: invalid partition .*; see \[launch.slurm\]"):
        own.submit(orders[:1])
    own.submit(orders[1:2])
    cluster.refuses = ["Unable to contact slurm controller"] * 3
    own.submit(orders[2:3])
    assert len(told) == 3
    assert len(cluster.arrays) == 2
    assert len(list(Spool(tmp_path).batches())) == 2, "what was refused leaves nothing behind"


def test_a_full_disk_ends_the_run_in_one_line_before_anything_is_submitted(cluster, orders, tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(spool, "_whole", full)
    with pytest.raises(UsageError, match=r"bench_\w+ cannot be written .No space left on device.: what was finished"):
        engine(cluster, tmp_path).submit(orders[:1])
    assert cluster.arrays == []


def test_stopping_cancels_what_is_under_way_and_leaves_no_file(cluster, orders, tmp_path):
    own = engine(cluster, tmp_path)
    own.submit(orders)
    own.stop()
    assert sorted(cluster.cancelled) == ["1_0", "2_0", "2_1"]
    assert list(Spool(tmp_path).folder.iterdir()) == []


def test_stopping_touches_no_job_of_another_run_in_the_folder(cluster, orders, tmp_path):
    other = engine(cluster, tmp_path)
    other.submit(orders[:1])
    own = engine(cluster, tmp_path)
    own.submit(orders[4:])
    own.stop()
    assert sorted(cluster.cancelled) == ["2_0", "2_1"]
    do(tmp_path, cluster)
    assert other.next().ending == "replied"


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', '{"format": 9}', "[1]", '"x"'])
def test_a_damaged_answer_is_an_error_of_one_line_that_names_it(cluster, orders, tmp_path, text):
    own = engine(cluster, tmp_path)
    own.submit(orders[:1])
    do(tmp_path, cluster)
    (key,) = Spool(tmp_path).answered()
    path = tmp_path / "spool" / f"{key}.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        own.next()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_strange_files_in_the_spool_are_left_alone(cluster, orders, tmp_path):
    (tmp_path / "spool" / "notes").mkdir(parents=True)
    (tmp_path / "spool" / "mine.json").write_text("mine")
    own = engine(cluster, tmp_path)
    own.submit(orders[:1])
    own.stop()
    assert {path.name for path in (tmp_path / "spool").iterdir()} == {"notes", "mine.json"}
