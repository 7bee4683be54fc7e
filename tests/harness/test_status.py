"""How far a run folder is, in tasks."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.metrics import METRICS
from bench.plan import sweep as sweeps
from bench.plan.case import tasks
from bench.schedule.run import plan_lines, revision
from bench.store.folder import Store, read_tasks
from bench.store.lines import text_of
from bench.store.status import seconds_each, status


@pytest.mark.parametrize(
    ("ran", "each"),
    [
        ([], None),
        ([(0, 2.0)], 2.0),
        ([(0, 2.0), (2, 4.0)], 3.0),
        ([(0, 4.0), (0, 4.0)], 2.0),  # side by side
        ([(0, 4.0), (2, 4.0)], 3.0),
        ([(0, 1.0), (50, 1.0)], 1.0),  # the pause between two runs is nobody's
    ],
)
def test_the_seconds_of_a_task_are_those_in_which_any_ran_over_their_number(ran, each):
    moments = [(f"2026-01-01T00:00:{second:02d}+00:00", wall) for second, wall in ran]
    assert seconds_each(moments) == (each if each is None else pytest.approx(each))


@pytest.fixture
def begun(tiny, planned, tmp_path):
    """A run folder in which two static tasks are done, one of them with a failure, and one timing."""
    sweep = sweeps.load(tiny)
    settings = sweep.protocol.of_timing
    wanted = tasks(planned, sweep.protocol.processes, {n: m.task for n, m in METRICS.items()}, settings)
    folder = tmp_path / "run"
    with Store(folder) as store:
        store.add_plan(plan_lines(planned))
        store.write("sweep.toml", tiny.read_text())
        for at, (own, statuses) in enumerate(
            [(wanted[0], ["ok"]), (wanted[1], ["error"]), (wanted[-2], ["ok"] * 4), (wanted[-2], ["skipped"] * 4)]
        ):
            blank = {"reason": "", "path_built": "", "values": {}, "unsupported": {}, "details": {}}
            seconds = [1.0] if own.kind == "timing" else []
            store.add_task(
                {
                    "task_id": own.id, "chunk_id": own.chunk_id, "kind": own.kind, "repetition": own.repetition,
                    "siblings": 1, "started": f"2026-01-01T00:00:{10 * at:02d}+00:00", "wall": 5.0, "env_id": "cpu-x",
                    "code_rev": revision(own) if at else "older", "protocol_version": 2,
                    "results": [{"case_id": c.id, "status": s, "seconds": seconds if s == "ok" else [], **blank}
                                for c, s in zip(own.cases, statuses, strict=True)],
                }
            )  # fmt: skip
    return folder, sweep, planned, wanted


def test_done_failed_and_left_are_counted_by_kind(begun):
    folder, sweep, planned, wanted = begun
    with Store(folder) as store:
        (kinds,) = status(sweep, planned, store.tasks(), held={wanted[2].id, wanted[0].id}).values()
    static, training, timing = kinds
    assert (static.done, static.failed, static.other_code, static.running, static.left) == (2, 1, 1, 1, 2)
    assert static.seconds == pytest.approx(10.0)
    assert (training.done, training.left, training.seconds) == (0, 0, 0.0)
    assert (timing.done, timing.left, timing.seconds) == (1, 1, pytest.approx(5.0)), "what had no time is not done"


def test_the_verb_tells_it_a_line_a_kind_with_the_same_filters(begun):
    folder, *_ = begun
    told = CliRunner().invoke(app, ["status", str(folder)])
    assert told.exit_code == 0, told.stderr
    assert told.stdout.splitlines() == [
        "cpu-x",
        "  static: 2 done (1 of them failed, 1 by other code than is here), 2 left, about 10 s",
        "  timing: 1 done, 1 left, about 5 s",
        "  all: 3 done, 3 left, about 15 s",
    ]
    some = CliRunner().invoke(app, ["status", str(folder), "--filter", "algebra=quaternion"])
    assert "  static: 2 done (1 of them failed, 1 by other code than is here), 0 left" in some.stdout.splitlines()
    assert "  timing: 0 done, 2 left, about 10 s" in some.stdout.splitlines(), "another chunk is other tasks"


def test_what_failed_in_a_metric_and_what_was_measured_in_another_way_is_told_as_a_run_would(begun):
    folder, sweep, planned, _ = begun
    lines = read_tasks(folder)
    lines[0]["results"][0]["failed"] = {"params": {"status": "oom", "reason": "no memory"}}
    (kinds,) = status(sweep, planned, lines).values()
    assert (kinds[0].done, kinds[0].failed) == (2, 2)
    lines[0]["protocol_version"] -= 1
    (kinds,) = status(sweep, planned, lines).values()
    assert (kinds[0].done, kinds[0].left) == (1, 3)


def test_what_a_folder_was_not_asked_for_is_not_left(begun):
    """A shard, or a run with a filter, is finished when it has what was asked of it."""
    folder, _, planned, _ = begun
    (folder / "plan.jsonl").write_bytes(b"".join(text_of({"schema": 1, **line}) for line in plan_lines(planned[:1])))
    told = CliRunner().invoke(app, ["status", str(folder)])
    assert "  static: 1 done (1 by other code than is here), 0 left" in told.stdout.splitlines()
    other = CliRunner().invoke(app, ["status", str(folder), "--filter", "algebra=quaternion"])
    assert "static: 1 done" in other.stdout, "its baseline"


def test_before_the_first_task_the_time_is_not_guessed(begun):
    folder, *_ = begun
    (folder / "tasks.jsonl").unlink()
    told = CliRunner().invoke(app, ["status", str(folder)])
    assert told.stdout.splitlines()[0] == "not begun"
    assert told.stdout.splitlines()[-1] == "  all: 0 done, 6 left, time unknown: none has been measured yet"


def test_a_run_under_way_is_seen_and_not_disturbed(begun):
    folder, *_, wanted = begun
    with Store(folder) as store:
        store.tasks()
        store.claim([wanted[2].id, wanted[3].id])
        before = {path: path.read_bytes() for path in (folder / "claims").iterdir()}
        told = CliRunner().invoke(app, ["status", str(folder)])
        assert "2 left, 2 of them under way" in told.stdout
        assert {path: path.read_bytes() for path in (folder / "claims").iterdir()} == before


def test_what_is_no_run_folder_is_named(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "bench", "status", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 2
    assert told.stderr == f"bench: {tmp_path} is no run folder: it has no plan.jsonl; make one with bench run\n"
