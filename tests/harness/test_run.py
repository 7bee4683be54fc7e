"""Scheduling and resuming, with a measure function that measures nothing."""

import contextlib
import copy
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from bench import env, run, sweep
from bench.launch.local import Worker
from bench.protocol import Reply, Request, Result
from bench.records import derive
from bench.store import Store, read_plan, read_tasks


class Quiet:
    def start(self, total, done):
        self.counts = (total, done)

    def begin(self, task): ...

    def end(self, task, seconds, problems): ...


def fake(task_id, request):
    timed = request.kind == "timing"
    return Reply(
        results=[
            Result(
                case_id=c.id,
                values={} if timed else {"params": 3, "numeric_error": 0.0},
                seconds=[0.5, 0.5] if timed else [],
            )
            for c in request.case_list()
        ]
    )


def go(path, folder, measure=fake):
    loaded = sweep.load(path)
    progress = Quiet()
    with Store(folder) as store:
        return run.run(loaded, sweep.expand(loaded), store, progress, measure=measure), progress


def test_a_second_run_finds_everything_done(tiny, tmp_path):
    first, _ = go(tiny, tmp_path / "run")
    assert (first.measured, first.resumed) == (4 + 2, 0)
    again, progress = go(tiny, tmp_path / "run")
    assert (again.measured, again.resumed) == (0, 6)
    assert progress.counts == (6, 6)
    assert len(read_tasks(tmp_path / "run")) == 6


def test_new_cases_are_measured_and_old_ones_kept(tiny, edited, tmp_path):
    go(tiny, tmp_path / "run")
    summary, _ = go(edited("channels = 8", "channels = [8, 16]"), tmp_path / "run")
    assert (summary.measured, summary.resumed) == (6, 6)


def test_failures_are_measured_again_and_the_row_is_replaced(tiny, tmp_path):
    def broken(task_id, request):
        reply = fake(task_id, request)
        for result in reply.results:
            result.status, result.reason = "crashed", "a bad day"
        return reply

    summary, _ = go(tiny, tmp_path, broken)
    assert summary.failed == 6
    assert {r["status"] for r in derive(read_plan(tmp_path), read_tasks(tmp_path))} == {"crashed"}
    summary, _ = go(tiny, tmp_path)
    assert (summary.measured, summary.failed) == (6, 0)
    assert {r["status"] for r in derive(read_plan(tmp_path), read_tasks(tmp_path))} == {"ok"}


def test_what_was_finished_before_a_kill_is_kept(tiny, tmp_path):
    seen = []

    def killed(task_id, request):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(task_id)
        return fake(task_id, request)

    with pytest.raises(KeyboardInterrupt):
        go(tiny, tmp_path, killed)
    done = len(read_tasks(tmp_path))
    assert 0 < done <= 3
    summary, _ = go(tiny, tmp_path)
    assert summary.resumed == done
    assert len({line["task_id"] for line in read_tasks(tmp_path)}) == len(read_tasks(tmp_path)) == 6


@pytest.fixture
def copied_source(tmp_path, monkeypatch):
    """A copy of the code that env hashes, to be edited."""
    for package in ("phnn", "bench"):
        shutil.copytree(env._ROOT / package, tmp_path / "src" / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(env, "_ROOT", tmp_path / "src")
    env.code_rev.cache_clear()
    yield tmp_path / "src"
    env.code_rev.cache_clear()


def edit(path: Path):
    path.write_text(path.read_text() + "\n# edited\n")
    env.code_rev.cache_clear()


def test_the_code_that_a_worker_loads_is_the_code_that_a_revision_hashes():
    """Or it only says what a case is (its id has that), carries messages (they have a version) or prints errors."""
    said = {"bench", "bench.case", "bench.sweep", "bench.protocol", "bench.factors", "bench.metrics", "bench.errors"}
    code = "import sys, bench.worker; print(*(m for m in sys.modules if m.split('.')[0] == 'bench'))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    hashed = tuple(name.removesuffix(".py").removesuffix("/").replace("/", ".") for name in env._MEASURING)
    measuring = [name for name in loaded if name not in said and name not in ("bench.study",)]
    assert "bench.worker" in measuring
    assert [name for name in measuring if not name.startswith((*hashed, "bench.study."))] == []


def test_editing_a_layer_measures_again_and_keeps_the_old_tasks(tiny, tmp_path, copied_source):
    go(tiny, tmp_path / "run")
    edit(copied_source / "phnn" / "layers" / "linear.py")
    summary, _ = go(tiny, tmp_path / "run")
    assert (summary.measured, summary.resumed) == (6, 0)
    assert len(read_tasks(tmp_path / "run")) == 12
    records = derive(read_plan(tmp_path / "run"), read_tasks(tmp_path / "run"))
    assert {r["code_rev"] for r in records} == {env.code_rev()}


def test_editing_a_figure_measures_nothing_again(tiny, tmp_path, copied_source):
    go(tiny, tmp_path / "run")
    edit(copied_source / "bench" / "report" / "figures.py")
    assert go(tiny, tmp_path / "run")[0].measured == 0


def test_the_environment_is_identified_by_what_it_is(monkeypatch):
    identifier = env.env_id("cpu")
    assert identifier.startswith("cpu-")
    monkeypatch.setattr(env.platform, "node", lambda: "another-host")
    assert env.env_id("cpu") == identifier
    changed = {**env.identity("cpu"), "cores": 999}
    monkeypatch.setattr(env, "identity", lambda device: changed)
    assert env.env_id("cpu") != identifier


# ------------------------------------------------------------------------------------------ real processes


def request(planned, kind="static", metrics=("params",), timeout=120.0):
    return Request(
        kind=kind, cases=copy.deepcopy([p.case.factors for p in planned]), metrics=list(metrics), repetition=0, device="cpu", threads=1,
        protocol=sweep.Protocol(timeout=timeout, budget=0.05, precision=0.5),
    )  # fmt: skip


def test_a_worker_process_measures_and_leaves_no_log(planned, tmp_path):
    reply = Worker(tmp_path).measure("t", request(planned[:1]))
    assert reply.results[0].values == {"params": 8 * 8 + 8}
    assert not list(tmp_path.glob("*.log"))


def test_a_case_that_raises_costs_that_case_alone(planned, tmp_path):
    asked = request(planned, "timing", ("latency",))
    asked.cases[1]["shape"]["channels"] = 9  # not divisible by 4
    results = Worker(tmp_path).measure("t", asked).results
    assert [r.status for r in results] == ["ok", "error", "ok", "ok"]
    assert "n=4 does not divide" in results[1].reason
    assert all(len(r.seconds) >= 8 for r in results if r.status == "ok")
    assert "Traceback" in (tmp_path / "t.log").read_text()


def test_a_process_that_dies_is_a_row_with_the_signal(planned, tmp_path, monkeypatch):
    real = Worker.__module__
    monkeypatch.setattr(f"{real}.sys.executable", "/bin/sh")  # sh -m bench.worker: exits at once
    (result,) = Worker(tmp_path).measure("t", request(planned[:1])).results
    assert result.status == "crashed"
    assert "exit code" in result.reason
    assert "t.log" in result.reason


def test_a_process_that_hangs_is_killed_and_reported(planned, tmp_path):
    (result,) = Worker(tmp_path).measure("t", request(planned[:1], timeout=0.2)).results
    assert (result.status, result.reason) == ("timeout", f"no result after 0.2 s; see {tmp_path / 't.log'}")


@pytest.fixture
def stopped():
    """Workers that are stopped when the test ends."""
    with contextlib.ExitStack() as stack:

        def keep(worker):
            stack.callback(worker.stop)
            return worker

        yield keep


def test_static_tasks_share_an_import_and_nothing_else(planned, tmp_path, stopped):
    """Each is measured by a process of its own, and finds to the byte what a fresh interpreter finds."""
    worker = stopped(Worker(tmp_path))
    metrics = ("params", "peak_bytes", "weight_bytes", "macs", "macs_weight_build", "numeric_error")
    requests = [request([p], metrics=metrics) for p in planned[1:3]]
    alone = [values_of(worker, "_run", asked, tmp_path) for asked in requests]
    shared = [worker.measure("t", asked).results[0].values for asked in [*requests, *reversed(requests)]]
    assert shared == alone + alone[::-1]
    assert set(alone[0]) == set(metrics)
    assert len(worker.running) == 1, "one process served them all"


def test_tasks_side_by_side_have_a_forker_each(planned, tmp_path, stopped):
    worker = stopped(Worker(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda i: worker.measure(f"t{i}", request([planned[i % 4]])), range(8)))
    assert [r.results[0].case_id for r in replies] == [planned[i % 4].case.id for i in range(8)]
    assert {r.results[0].status for r in replies} == {"ok"}
    assert len(worker.running) == len(worker.idle) <= 2


def test_a_static_task_that_is_killed_costs_itself_alone(planned, tmp_path, stopped):
    worker = stopped(Worker(tmp_path))
    worker.measure("first", request(planned[:1]))
    (forker,) = (psutil.Process(process.pid) for process in worker.running)
    heavy = request(planned[:1], metrics=("numeric_error",))
    heavy.cases[0]["shape"] |= {"channels": 4096, "batch": 4096}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.measure, "heavy", heavy)
        assert wait_until(forker.children)
        forker.children()[0].kill()
        (result,) = waiting.result().results
    assert (result.status, "signal 9" in result.reason) == ("crashed", True), result
    assert worker.measure("next", request(planned[1:2])).results[0].status == "ok"
    assert {process.pid for process in worker.running} == {forker.pid}, "the forker serves on"


def test_a_forker_that_is_killed_is_replaced_and_takes_its_process_along(planned, tmp_path, stopped):
    worker = stopped(Worker(tmp_path))
    worker.measure("first", request(planned[:1]))
    (forker,) = (psutil.Process(process.pid) for process in worker.running)
    heavy = request(planned[:1], metrics=("numeric_error",))
    heavy.cases[0]["shape"] |= {"channels": 4096, "batch": 4096}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.measure, "heavy", heavy)
        assert wait_until(forker.children)
        (child,) = forker.children()
        forker.kill()
        (result,) = waiting.result().results
    assert result.status == "crashed"
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert worker.measure("next", request(planned[1:2])).results[0].status == "ok"


def values_of(worker, run, asked, folder):
    """What one way of starting a process finds."""
    assert getattr(worker, run)(asked, folder / "reply.json", folder / "alone.log") == 0
    return Reply.model_validate_json((folder / "reply.json").read_text()).results[0].values


SLOW = """
schema = 1
name = "slow"
title = "slow"
[protocol]
timeout = 100
[[cases]]
subject = "resnet8"
metrics = ["accuracy"]
[cases.axes]
algebra = "real"
data = "digits"
seed = [0, 1]
[cases.recipe]
epochs = 100000
"""


def workers_of(folder):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "bench.worker" in (process.info["cmdline"] or []) and process.cwd() == str(folder):
                found.append(process)
    return found


def wait_until(condition, seconds=60):
    for _ in range(seconds * 20):
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_run(tmp_path, how):
    """The parent alone gets the signal, as from a batch system; the workers end with it."""
    path = tmp_path / "slow.toml"
    path.write_text(SLOW)
    command = [sys.executable, "-m", "bench", "run", str(path), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(env._ROOT)}
    parent = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert wait_until(lambda: workers_of(tmp_path)), "no worker has started"
    parent.send_signal(how)
    _, errors = parent.communicate(timeout=60)
    assert wait_until(lambda: not workers_of(tmp_path)), "a worker is still alive"
    assert parent.returncode != 0
    assert "Traceback" not in errors
    if how == signal.SIGINT:
        assert parent.returncode == 130
        assert "interrupted; what was finished is kept" in errors
    with Store(tmp_path / "run") as store:
        assert store.tasks() == []
