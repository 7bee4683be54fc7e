"""Scheduling and resuming, with a measure function that measures nothing."""

import copy
import shutil
from pathlib import Path

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
            Result(case_id=c.id, values={} if timed else {"params": 3}, seconds=[0.5, 0.5] if timed else [])
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
