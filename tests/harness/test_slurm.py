"""The engine over a cluster, with one that a test plays: what is queued, what comes back, what a successor finds."""

import sys
import time

import pytest

from bench import sweep as sweeps
from bench.case import tasks
from bench.errors import UsageError
from bench.launch import slurm, spool, task
from bench.launch.cluster import Place, RefusedError, Seen, parse, said_by_sbatch
from bench.launch.engine import Attempt, Crumb, Order
from bench.launch.profile import Profile
from bench.launch.slurm import Slurm
from bench.launch.spool import Answer, Spool
from bench.metrics import METRICS
from bench.protocol import Reply, Request, Result

QUICK = {"poll": 0.001, "grace": 0.0}


class Played:
    """A cluster whose jobs do what a test says: by index in the order of submission."""

    def __init__(self):
        self.jobs = {}  # Place → state
        self.arrays = []  # (name, commands, parameters)
        self.cancelled = []
        self.answers = True
        self.refuses = []

    def check(self): ...

    def submit(self, folder, commands, parameters):
        if self.refuses:
            raise RefusedError(self.refuses.pop())
        self.arrays.append((folder.name, commands, parameters))
        for index in range(len(commands)):
            self.jobs[Place(folder.name, index)] = "PENDING"

    def queue(self):
        if not self.answers:
            return None
        ids = {name: str(number) for number, (name, *_) in enumerate(self.arrays, 1)}
        return {place: Seen(f"{ids[place.batch]}_{place.index}", s, "node1") for place, s in self.jobs.items() if s}

    def cancel(self, job_ids):
        self.cancelled += job_ids
        for place, job in (self.queue() or {}).items():
            if job.job_id in job_ids:
                self.jobs[place] = "CANCELLED"

    def end(self, state="COMPLETED"):
        for place in self.jobs:
            self.jobs[place] = state


@pytest.fixture
def cluster():
    return Played()


@pytest.fixture
def orders(planned):
    kinds = {name: metric.task for name, metric in METRICS.items()}
    loaded = sweeps.Protocol(processes=2, budget=0.05, precision=0.5, timeout=120)
    return [
        Order(t.id, 1, Request.of(t, "cpu", 4, loaded, None)) for t in tasks(planned, loaded.processes, kinds, {})
    ]  # four static ones, then two that are timed


def engine(cluster, folder, **options):
    """An engine that looks at once, and all the time."""
    profile = options.pop("profile", QUICK)
    return Slurm(folder, Profile(**profile), cluster=cluster, tell=options.pop("tell", print), **options)


def reply_to(request):
    return Reply(results=[Result(case_id=case.id, values={"params": 3}) for case in request.case_list()])


def do(folder, cluster, ending="replied", only=None, **values):
    """What the jobs' nodes would write."""
    kept = Spool(folder)
    for place in cluster.jobs:
        for asked in kept.job(place.batch, place.index).orders if (kept.folder / place.batch).exists() else ():
            if only is None or asked.task_id in only:
                reply = reply_to(asked.request) if ending == "replied" else None
                told = {"started": f"2026-01-01T00:00:00.{asked.attempt:06d}+00:00", "env_id": "here", **values}
                kept.put_answer(
                    asked.key, Answer(task_id=asked.task_id, ending=ending, host="n1", reply=reply, **told)
                )


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


# ------------------------------------------------------------------------------------------------- on a node


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


# ------------------------------------------------------------------------------------------------ commands' words


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
