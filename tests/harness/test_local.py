"""Processes on this machine: fresh and forked ones, what they leave behind, and how they end."""

import contextlib
import copy
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from bench.errors import UsageError
from bench.launch import local, oom, processes
from bench.launch.engine import Crumb, Order
from bench.launch.processes import Worker
from bench.machine import env
from bench.plan import sweep
from bench.store.folder import Store
from bench.task.protocol import Reply, Request


def request(planned, kind="static", metrics=("params",), timeout=120.0):
    return Request(
        kind=kind, cases=copy.deepcopy([p.case.factors for p in planned]), metrics=list(metrics), repetition=0, device="cpu", threads=1,
        protocol=sweep.Protocol(timeout=timeout, budget=0.05, precision=0.5),
    )  # fmt: skip


@pytest.fixture
def worker():
    """Processes that end with the test."""
    with contextlib.ExitStack() as stack:
        made = Worker()
        stack.callback(made.stop)
        yield made


def run(worker, asked, folder, name="t", attempt=1):
    """An attempt of an order; its log is in the folder, and nothing else."""
    return local.attempt(worker, Order(name, attempt, asked), folder, folder, "cpu-x")


def test_a_worker_process_measures_and_leaves_nothing_behind(planned, tmp_path, worker):
    found = run(worker, request(planned[:1]), tmp_path)
    assert found.ending == "replied"
    assert found.reply.results[0].values == {"params": 8 * 8 + 8}
    assert found.crumb == Crumb(planned[0].case.id, "count")
    assert not [path for path in tmp_path.iterdir() if path.name != "tiny.toml"]


def test_a_case_that_raises_costs_that_case_alone(planned, tmp_path, worker):
    asked = request(planned, "timing", ("latency",))
    asked.cases[1]["shape"]["channels"] = 9  # not divisible by 4
    results = run(worker, asked, tmp_path).reply.results
    assert [r.status for r in results] == ["ok", "error", "ok", "ok"]
    assert "n=4 does not divide" in results[1].reason
    assert all(len(r.seconds) >= 8 for r in results if r.status == "ok")
    assert "Traceback" in (tmp_path / "t.log").read_text()


def test_a_process_that_dies_leaves_its_signal_and_what_it_said(planned, tmp_path, worker, monkeypatch):
    monkeypatch.setattr(processes.sys, "executable", "/bin/sh")  # sh -m bench.task.worker: exits at once
    found = run(worker, request(planned[:1]), tmp_path)
    assert (found.ending, found.crumb, found.reply) == ("died", None, None)
    assert found.code > 0
    assert "bench" in found.said
    assert found.log.exists()


def test_a_process_that_hangs_is_killed_and_its_crumb_says_where(planned, tmp_path, worker):
    run(worker, request(planned[:1]), tmp_path)  # the import of torch is not what is waited for
    heavy = request(planned[:1], metrics=("numeric_error",), timeout=1.0)
    heavy.cases[0]["shape"] |= {"channels": 8192, "batch": 8192}
    found = run(worker, heavy, tmp_path)
    assert (found.ending, found.code) == ("timeout", None)
    assert found.crumb.case_id == heavy.case_list()[0].id
    assert not worker.running, "a forker whose child hangs is not used again"


def test_each_attempt_has_a_log_of_its_own(planned, tmp_path, worker, monkeypatch):
    monkeypatch.setattr(processes.sys, "executable", "/bin/sh")
    logs = [run(worker, request(planned[:1]), tmp_path, attempt=i).log.name for i in (1, 2)]
    assert logs == ["t.log", "t.2.log"]


def test_a_worker_without_room_for_its_reply_is_told_from_one_that_crashed(planned, tmp_path, worker):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    (tmp_path / "t.crumb").symlink_to("/dev/full")
    with pytest.raises(UsageError, match="cannot be written .no space.: what was finished before is kept"):
        run(worker, request(planned[:1]), tmp_path)


def test_a_link_in_the_place_of_a_log_leads_no_process_out_of_the_folder(planned, tmp_path, worker):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "t.log").symlink_to(precious)
    with pytest.raises(UsageError, match="t.log is a link: what a run writes stays in its folder"):
        run(worker, request(planned[:1]), tmp_path)
    assert precious.read_text() == "mine"


def test_without_room_for_temporary_files_one_line_says_so(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(local.tempfile, "TemporaryDirectory", full)
    with pytest.raises(UsageError, match=r"temporary files: No usable .*; make room, or set TMPDIR"):
        local.Local(tmp_path, "cpu")


def test_the_kernels_count_is_that_of_our_group_before_that_of_the_machine(tmp_path):
    assert oom.kills(tmp_path) == 0
    for name, text in {
        "proc/vmstat": "pgfault 7\noom_kill 5\n",
        "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        "sys/fs/cgroup/memory/jobs/memory.oom_control": "oom_kill 3\n",
        "sys/fs/cgroup/memory.events": "oom 9\noom_kill 2\n",
        "sys/fs/cgroup/user/memory.events": "oom_kill 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "proc/self").mkdir()
    groups = tmp_path / "proc/self/cgroup"
    groups.write_text("0::/user\n4:memory:/jobs\n")
    found = []
    for path in sorted(
        tmp_path.glob("sys/fs/cgroup/**/memory.*"), key=lambda p: ("memory/" in str(p), -len(p.parts))
    ):
        found.append(oom.kills(tmp_path))
        path.unlink()
    assert [*found, oom.kills(tmp_path)] == [1, 2, 3, 4, 5]


def test_the_kernels_count_is_there_on_linux():
    assert oom.kills() >= 0


def test_static_tasks_share_an_import_and_nothing_else(planned, tmp_path, worker):
    """Each is measured by a process of its own, and finds to the byte what a fresh interpreter finds."""
    metrics = ("params", "peak_bytes", "weight_bytes", "macs", "macs_weight_build", "numeric_error")
    requests = [request([p], metrics=metrics) for p in planned[1:3]]
    alone = [fresh_values(worker, asked, tmp_path) for asked in requests]
    shared = [values(run(worker, asked, tmp_path)) for asked in [*requests, *reversed(requests)]]
    assert shared == alone + alone[::-1]
    assert set(alone[0]) == set(metrics)
    assert len(worker.running) == 1, "one process served them all"


@pytest.mark.skipif(not psutil.LINUX, reason="/proc is Linux's")
def test_the_resident_set_holds_what_a_case_does_and_its_measurement_leaves_nothing_behind(planned, tmp_path, worker):
    (real,) = (p for p in planned if p.case.algebra == "real")

    def measured(*metrics):
        asked = request([real], metrics=metrics)
        asked.cases[0]["shape"] |= {"channels": 2048}
        return values(run(worker, asked, tmp_path, "-".join(metrics)))

    alone, both = measured("peak_bytes"), measured("peak_bytes", "rss_bytes")
    assert both["peak_bytes"] == alone["peak_bytes"]
    # the weight is all but all of the peak; what libraries take and the code that runs first come on top
    assert 4 * 2048**2 <= both["rss_bytes"] <= alone["peak_bytes"] + 2**28


def test_tasks_side_by_side_have_a_forker_each(planned, tmp_path, worker):
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda i: run(worker, request([planned[i % 4]]), tmp_path, f"t{i}").reply, range(8)))
    assert [r.results[0].case_id for r in replies] == [planned[i % 4].case.id for i in range(8)]
    assert {r.results[0].status for r in replies} == {"ok"}
    assert len(worker.running) == len(worker.idle) <= 2


def test_a_static_task_that_is_killed_costs_itself_alone(planned, tmp_path, worker):
    run(worker, request(planned[:1]), tmp_path, "first")
    (forker,) = (psutil.Process(process.pid) for process in worker.running)
    heavy = request(planned[:1], metrics=("numeric_error",))
    heavy.cases[0]["shape"] |= {"channels": 4096, "batch": 4096}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run, worker, heavy, tmp_path, "heavy")
        assert wait_until(forker.children)
        forker.children()[0].kill()
        found = waiting.result()
    assert (found.ending, found.code) == ("died", -9)
    assert run(worker, request(planned[1:2]), tmp_path, "next").ending == "replied"
    assert {process.pid for process in worker.running} == {forker.pid}, "the forker serves on"


def test_a_forker_that_is_killed_is_replaced_and_takes_its_process_along(planned, tmp_path, worker):
    run(worker, request(planned[:1]), tmp_path, "first")
    (forker,) = (psutil.Process(process.pid) for process in worker.running)
    heavy = request(planned[:1], metrics=("numeric_error",))
    heavy.cases[0]["shape"] |= {"channels": 4096, "batch": 4096}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run, worker, heavy, tmp_path, "heavy")
        assert wait_until(forker.children)
        (child,) = forker.children()
        forker.kill()
        found = waiting.result()
    assert (found.ending, found.code) == ("died", -9)
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert run(worker, request(planned[1:2]), tmp_path, "next").ending == "replied"


def values(attempt):
    return attempt.reply.results[0].values


def fresh_values(worker, asked, folder):
    """What an interpreter of its own finds."""
    assert worker.fresh(asked, folder / "reply.json", folder / "alone.log") == 0
    return Reply.model_validate_json((folder / "reply.json").read_text()).results[0].values


def test_forkers_do_not_live_beside_what_is_timed(planned, tmp_path):
    with local.Local(tmp_path, "cpu") as engine:
        engine.submit([Order("static", 1, request(planned[:1]))])
        assert engine.next().ending == "replied"
        (forker,) = engine.worker.running
        engine.submit([Order("timing", 1, request(planned[:2], "timing", ("latency",)))])
        assert forker.poll() is not None
        assert engine.next().ending == "replied"
    assert not engine.worker.running


def test_nothing_is_started_after_the_end(planned, tmp_path):
    engine = local.Local(tmp_path, "cpu")
    engine.stop()
    with pytest.raises(RuntimeError, match="after stop"):
        local.attempt(engine.worker, Order("t", 1, request(planned[:1])), tmp_path, tmp_path, "cpu-x")


def test_what_a_worker_has_started_ends_with_it(tmp_path, worker):
    (tmp_path / "leaves.py").write_text("import subprocess; subprocess.Popen(['sleep', '1000'])")
    with contextlib.chdir(tmp_path):
        assert worker.run(["leaves"], "", 1, 60, tmp_path / "t.log") == 0
    left = [p for p in psutil.process_iter(["cmdline", "status"]) if p.info["cmdline"] == ["sleep", "1000"]]
    assert wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left))


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
            if "bench.task.worker" in (process.info["cmdline"] or []) and process.cwd() == str(folder):
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


# ------------------------------------------------------------------------------- what a worker says of who raised


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A worker's ``main`` in this process: a function of a request that gives its reply."""
    torch, worker = pytest.importorskip("torch"), pytest.importorskip("bench.task.worker")
    threads = torch.get_num_threads()
    for name in ("_file", "_at"):
        monkeypatch.setattr(worker.crumb, name, getattr(worker.crumb, name))

    def main(asked):
        assert worker.main(asked.model_dump_json(), tmp_path / "reply.json") == 0
        return Reply.model_validate_json((tmp_path / "reply.json").read_text())

    yield main
    os.close(worker.crumb._file)
    torch.set_num_threads(threads)


def test_a_case_that_raises_while_it_is_timed_is_all_that_the_reply_is_about(planned, inside, monkeypatch):
    """The others are measured anew, by a process in which it is not."""

    def measure(place, *, visit, **_):
        visit(planned[0].case.id)
        visit(planned[2].case.id)
        raise ValueError("too late")

    monkeypatch.setattr("bench.task.timing.latency.measure", measure)
    (result,) = inside(request(planned, "timing", ("latency",))).results
    assert (result.case_id, result.status, result.reason) == (planned[2].case.id, "error", "ValueError: too late")


def test_an_error_that_cuda_would_report_again_ends_the_process_of_the_case_that_made_it(
    planned, inside, monkeypatch
):
    from bench.task.subject import build

    def broken(case, *rest):
        if case.id == planned[1].case.id:
            raise RuntimeError("CUDA error: device-side assert triggered\nmore")
        return build(case, *rest)

    monkeypatch.setattr("bench.task.timing.build", broken)
    (result,) = inside(request(planned, "timing", ("latency",))).results
    assert (result.case_id, result.status) == (planned[1].case.id, "error")
    assert result.reason == "RuntimeError: CUDA error: device-side assert triggered"


@pytest.mark.parametrize("said", ["std::bad_alloc", "[enforce fail] DefaultCPUAllocator: can't allocate memory"])
def test_what_allocators_say_is_oom(planned, inside, monkeypatch, said):
    def build(*_):
        raise RuntimeError(said)

    monkeypatch.setattr("bench.task.static.build", build)
    (result,) = inside(request(planned[:1])).results
    assert (result.status, result.reason) == ("oom", said)
