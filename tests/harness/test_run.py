"""Scheduling, resuming and giving up, with engines that start no process."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engines import Instant, ended, sound
from played import failing, go, statuses

from bench.errors import UsageError
from bench.machine import env
from bench.schedule.resume import Policy
from bench.store.folder import Store, read_plan, read_tasks
from bench.table.records import derive


def test_a_second_run_finds_everything_done(tiny, tmp_path):
    first, *_ = go(tiny, tmp_path / "run")
    assert (first.measured, first.resumed) == (4 + 2, 0)
    again, watcher, engine = go(tiny, tmp_path / "run")
    assert (again.measured, again.resumed) == (0, 6)
    assert watcher.counts == (6, 6)
    assert engine.orders == []
    assert len(read_tasks(tmp_path / "run")) == 6


def test_new_cases_are_measured_and_old_ones_kept(tiny, edited, tmp_path):
    go(tiny, tmp_path / "run")
    summary, *_ = go(edited("channels = 8", "channels = [8, 16]"), tmp_path / "run")
    assert (summary.measured, summary.resumed) == (6, 6)


@pytest.mark.parametrize("status", ["crashed", "timeout", "oom", "error"])
def test_failures_are_done_until_it_is_asked_to_retry_them_and_then_the_row_is_replaced(tiny, tmp_path, status):
    summary, *_ = go(tiny, tmp_path, failing(status))
    assert summary.failed == 6
    assert statuses(tmp_path) == {status}
    summary, _, engine = go(tiny, tmp_path)
    assert (summary.resumed, summary.failed_before, engine.orders) == (6, 6, [])
    summary, *_ = go(tiny, tmp_path, policy=Policy(retry_failed=True))
    assert (summary.measured, summary.failed) == (6, 0)
    assert statuses(tmp_path) == {"ok"}
    summary, *_ = go(tiny, tmp_path, policy=Policy(retry_failed=True))
    assert (summary.measured, summary.resumed, summary.failed_before) == (0, 6, 0)


@pytest.mark.parametrize("status", ["wrong", "unsupported"])
def test_what_nothing_can_mend_is_not_retried(tiny, tmp_path, status):
    go(tiny, tmp_path, failing(status))
    assert go(tiny, tmp_path, policy=Policy(retry_failed=True))[0].measured == 0


def test_fresh_measures_all_again_and_keeps_what_there_was(tiny, tmp_path):
    go(tiny, tmp_path)
    summary, *_ = go(tiny, tmp_path, policy=Policy(fresh=True))
    assert (summary.measured, summary.resumed) == (6, 0)
    assert len(read_tasks(tmp_path)) == 12


def test_what_was_finished_before_an_interrupt_is_kept(tiny, tmp_path):
    seen = []

    def interrupted(order):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(order)
        return sound(order)

    with pytest.raises(KeyboardInterrupt):
        go(tiny, tmp_path, interrupted)
    assert len(read_tasks(tmp_path)) == 3
    summary, *_ = go(tiny, tmp_path)
    assert summary.resumed == 3
    assert len({line["task_id"] for line in read_tasks(tmp_path)}) == len(read_tasks(tmp_path)) == 6


def test_static_tasks_share_the_engine_and_timing_tasks_never(tiny, tmp_path):
    _, _, engine = go(tiny, tmp_path)
    assert engine.most == 2
    assert [order.request.kind for order in engine.orders] == ["static"] * 4 + ["timing"] * 2


def test_an_engine_on_which_nothing_is_alone_gets_as_much_as_it_takes(tiny, tmp_path):
    _, _, engine = go(tiny, tmp_path, engine=Instant(alone=(), width=100))
    assert engine.most == 6


def test_a_process_that_died_is_tried_again_with_the_machine_to_itself(tiny, tmp_path):
    died = set()

    def once(order):
        if order.task_id in died:
            return sound(order)
        died.add(order.task_id)
        return ended(order)

    summary, watcher, engine = go(tiny, tmp_path, once)
    assert (summary.measured, summary.failed) == (6, 0)
    assert sorted(order.attempt for order in engine.orders) == [1] * 6 + [2] * 6
    assert sum(event == "again" for event, *_ in watcher.told) == 6
    for line in read_tasks(tmp_path):
        assert line["attempts"] == 2
        assert line["said"] == ["attempt 1: it ended with signal 9 before its first case"]


def culprit(order, is_it):
    """A chunk that dies at the case for which ``is_it`` says so; it is well without it."""
    case = next((case for case in order.request.case_list() if is_it(case)), None)
    return ended(order, at=case.id) if case and order.request.kind == "timing" else sound(order)


def test_a_case_that_crashes_its_chunk_costs_its_own_rows_and_nothing_else(tiny, tmp_path):
    summary, _, engine = go(tiny, tmp_path, lambda order: culprit(order, lambda case: case.n == 2))
    assert summary.failed == 2
    rows = derive(read_plan(tmp_path), read_tasks(tmp_path))
    timed = {(r["n"], r["algebra"]): r for r in rows if r["metric"] == "latency_ratio"}
    assert {key: row["status"] for key, row in timed.items()} == {
        (1, "real"): "ok", (4, "quaternion"): "ok", (2, "ph"): "crashed", (4, "ph"): "ok",
    }  # fmt: skip
    assert "signal 9" in timed[2, "ph"]["reason"]
    # found out in the first repetition: twice all, alone, without it; the second repetition knows
    sizes = [len(order.request.cases) for order in engine.orders if order.request.kind == "timing"]
    assert sizes == [4, 4, 2, 3, 3]
    again, _, engine = go(tiny, tmp_path)
    assert (again.measured, again.failed_before) == (0, 2)


def test_a_resumed_run_knows_who_crashed_the_chunk_in_an_earlier_repetition(tiny, tmp_path):
    def interrupted(order):
        if order.request.kind == "timing" and order.request.repetition == 1:
            raise KeyboardInterrupt
        return culprit(order, lambda case: case.n == 2)

    with pytest.raises(KeyboardInterrupt):
        go(tiny, tmp_path, interrupted)
    summary, _, engine = go(tiny, tmp_path)
    assert [len(order.request.cases) for order in engine.orders] == [3]
    assert summary.failed == 1
    (row,) = (
        r for r in derive(read_plan(tmp_path), read_tasks(tmp_path)) if r["n"] == 2 and r["metric"] == "latency"
    )
    assert row["status"] == "crashed"


def test_samples_of_a_suspect_are_compared_with_the_baseline_of_its_own_process(tiny, tmp_path):
    """The suspect dies twice beside the others, and is measured alone, when the machine is half as fast."""
    fates = itertools.chain([True, True, False, False], itertools.repeat(False))

    def answer(order):
        if order.request.kind == "static":
            return sound(order)
        if next(fates):
            return culprit(order, lambda case: case.n == 2)
        reply, slow = sound(order), 2.0 if len(order.request.cases) == 2 else 1.0
        for result, case in zip(reply.results, order.request.case_list(), strict=True):
            result.seconds = [slow * (0.5 if case.algebra == "real" else 0.25)] * (3 if slow > 1 else 2)
        return reply

    summary, *_ = go(tiny, tmp_path, answer)
    assert summary.failed == 0
    ratios = [r for r in derive(read_plan(tmp_path), read_tasks(tmp_path)) if r["metric"] == "latency_ratio"]
    assert {(r["status"], r["value"]) for r in ratios if r["algebra"] != "real"} == {("ok", 0.5)}


def test_a_baseline_that_crashes_leaves_latencies_and_says_so_in_the_ratios(tiny, tmp_path):
    go(tiny, tmp_path, lambda order: culprit(order, lambda case: case.algebra == "real"))
    rows = derive(read_plan(tmp_path), read_tasks(tmp_path))
    others = [r for r in rows if r["algebra"] != "real" and r["metric"].startswith("latency")]
    assert {(r["metric"], r["status"]) for r in others} == {("latency", "ok"), ("latency_ratio", "crashed")}
    assert all("the baseline: it ended with signal 9" in r["reason"] for r in others if r["status"] == "crashed")


def test_stop_on_error_starts_nothing_more_and_keeps_what_was_running(tiny, tmp_path):
    summary, _, engine = go(tiny, tmp_path, failing("error"), stop_on_error=True)
    assert (summary.measured, summary.stopped) == (2, 4), "two ran side by side"
    assert len(engine.orders) == len(read_tasks(tmp_path)) == 2


def test_stop_on_error_stops_at_a_wrong_answer_too(tiny, tmp_path):
    summary, *_ = go(tiny, tmp_path, failing("wrong"), stop_on_error=True)
    assert (summary.measured, summary.failed, summary.stopped) == (2, 0, 4)


def test_what_another_run_has_claimed_is_left_to_it(tiny, tmp_path, monkeypatch):
    taken = []

    def claim(store, ids, place):
        taken[:] = taken or ids[:1]
        return [id_ for id_ in ids if id_ not in taken]

    monkeypatch.setattr(Store, "claim", claim)
    summary, _, engine = go(tiny, tmp_path)
    assert (summary.measured, summary.elsewhere) == (5, 1)
    assert taken[0] not in {order.task_id for order in engine.orders}


def test_the_machine_without_room_ends_the_run_in_one_line(tiny, tmp_path):
    def full(order):
        raise UsageError("t.log cannot be written (No space left on device): what was finished before is kept")

    with pytest.raises(UsageError, match="No space left"):
        go(tiny, tmp_path, full)


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
    said = {
        "bench",
        "bench.machine",
        "bench.plan",
        "bench.task",
        "bench.plan.case",
        "bench.plan.sweep",
        "bench.task.protocol",
        "bench.launch",
        "bench.launch.profile",
        "bench.plan.factors",
        "bench.metrics",
        "bench.errors",
        "bench.tomlfile",
    }
    said |= {"bench.task.crumb", "bench.task.parent", "bench.uncollected"}  # where a process is, and when it ends
    code = "import sys, bench.task.worker; print(*(m for m in sys.modules if m.split('.')[0] == 'bench'))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    hashed = tuple(name.removesuffix(".py").removesuffix("/").replace("/", ".") for name in env._MEASURING)
    measuring = [name for name in loaded if name not in said and name not in ("bench.study",)]
    assert "bench.task.worker" in measuring
    assert [name for name in measuring if not name.startswith((*hashed, "bench.study."))] == []


def test_editing_a_layer_measures_again_and_keeps_the_old_tasks(tiny, tmp_path, copied_source):
    go(tiny, tmp_path / "run")
    edit(copied_source / "phnn" / "layers" / "linear.py")
    summary, *_ = go(tiny, tmp_path / "run")
    assert (summary.measured, summary.resumed) == (6, 0)
    assert len(read_tasks(tmp_path / "run")) == 12
    records = derive(read_plan(tmp_path / "run"), read_tasks(tmp_path / "run"))
    assert {r["code_rev"] for r in records} == {env.code_rev()}


def test_what_other_code_measured_is_accepted_when_it_is_asked_for(tiny, edited, tmp_path, copied_source):
    go(tiny, tmp_path / "run")
    edit(copied_source / "phnn" / "layers" / "linear.py")
    summary, *_ = go(tiny, tmp_path / "run", policy=Policy(accept_older=True))
    assert (summary.measured, summary.resumed) == (0, 6)
    go(tiny, tmp_path / "run")  # now by the new code too, but for what is new
    summary, *_ = go(edited("processes = 2", "processes = 3"), tmp_path / "run", policy=Policy(accept_older=True))
    assert (summary.measured, summary.resumed) == (1, 6)


def test_repetitions_of_a_chunk_are_never_of_two_revisions(tiny, tmp_path, copied_source):
    def interrupted(order):
        if order.request.repetition == 1:
            raise KeyboardInterrupt
        return sound(order)

    with pytest.raises(KeyboardInterrupt):
        go(tiny, tmp_path / "run", interrupted)
    edit(copied_source / "phnn" / "layers" / "linear.py")
    summary, *_ = go(tiny, tmp_path / "run", policy=Policy(accept_older=True))
    assert (summary.measured, summary.resumed) == (2, 4), "one repetition by older code is not enough"


def test_editing_a_figure_measures_nothing_again(tiny, tmp_path, copied_source):
    go(tiny, tmp_path / "run")
    edit(copied_source / "bench" / "report" / "style.py")
    assert go(tiny, tmp_path / "run")[0].measured == 0


def test_the_environment_is_identified_by_what_it_is(monkeypatch):
    identifier = env.env_id("cpu")
    assert identifier.startswith("cpu-")
    monkeypatch.setattr(env.platform, "node", lambda: "another-host")
    assert env.env_id("cpu") == identifier
    changed = {**env.identity("cpu"), "cores": 999}
    monkeypatch.setattr(env, "identity", lambda device: changed)
    assert env.env_id("cpu") != identifier
