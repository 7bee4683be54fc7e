"""Every way to fail, in real processes: each has its status, and costs its own rows alone."""

import contextlib
import json
import re
import subprocess
import time

import psutil
import pytest

from bench.store.folder import read_plan, read_tasks
from bench.table.records import derive

HEAD = """
schema = 1
name = "faults"
title = "faults"
[protocol]
processes = 2
budget = 0.05
precision = 0.5
timeout = {timeout}
[[cases]]
subject = "linear"
metrics = {metrics}
[cases.axes]
algebra = "real"
channels = 8
batch = 2
[[cases]]
subject = "faulty"
metrics = {metrics}
[cases.axes]
channels = 8
batch = 2
fault = {faults}
"""

EXPECTED = {
    "none": "ok", "raise": "error", "raise_later": "error", "exit": "crashed", "kill": "crashed", "segv": "crashed",
    "hang": "timeout", "allocate": "oom", "bad_alloc": "oom", "orphan": "crashed",
}  # fmt: skip


def sweep(folder, metrics, faults, timeout):
    path = folder / "faults.toml"
    path.write_text(HEAD.format(metrics=json.dumps(metrics), faults=json.dumps(faults), timeout=timeout))
    return path


def rows(folder, metric):
    """Fault → the row of a metric; the baseline's is called real."""
    return {
        json.loads(row["shape"]).get("fault", "real"): row
        for row in derive(read_plan(folder), read_tasks(folder))
        if row["metric"] == metric
    }


def sleepers(bench):
    """What an orphan of this run has started; others on this machine may sleep too."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if process.info["cmdline"] == ["sleep", "1000"] and process.environ()["TMPDIR"] == str(bench.scratch):
                found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return found


def statuses(found):
    return {fault: row["status"] for fault, row in found.items()}


def test_a_chunk_with_every_fault_in_it_ends_with_the_right_status_of_each(bench, tmp_path, request):
    """Light workers: what they do to a process is the same, and there are dozens of processes."""
    faults = ["none", "raise", "kill", "hang", "bad_alloc"]
    if request.config.getoption("--full"):
        faults = [fault for fault in EXPECTED if fault not in ("allocate", "raise_later")]
    path = sweep(tmp_path, ["latency", "latency_ratio"], faults, 8)
    done = bench("run", path, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    found = rows(tmp_path / "run", "latency_ratio")
    assert statuses(found) == {"real": "ok"} | {fault: EXPECTED[fault] for fault in faults}
    assert all(row["reason"] for row in found.values() if row["status"] != "ok")
    assert not sleepers(bench)
    lines = read_tasks(tmp_path / "run")
    assert len({line["task_id"] for line in lines}) == len(lines), "a line a task, however many attempts it took"


def test_real_workers_fail_alike(bench, tmp_path, request):
    """The static tasks of all faults; in full the timing of them too, of which each process loads torch."""
    full = request.config.getoption("--full")
    faults = [fault for fault in EXPECTED if full or fault not in ("exit", "orphan", "segv", "raise_later")]
    path = sweep(tmp_path, ["latency", "latency_ratio"] if full else ["params", "numeric_error"], faults, 60)
    done = bench("run", path, "--out", tmp_path / "run", light=False)
    assert done.returncode == 3, done.stdout + done.stderr
    expected = {"real": "ok"} | {fault: EXPECTED[fault] for fault in faults}
    checks = statuses(rows(tmp_path / "run", "numeric_error"))
    if not full:
        assert checks == expected
        return
    assert checks == expected | {"raise_later": "ok"}
    assert statuses(rows(tmp_path / "run", "latency")) == expected


def test_exit_codes_say_how_it_went(bench, tmp_path):
    codes = {}
    for faults, name in ((["none"], "well"), (["raise"], "some"), (["none", "raise"], "mixed")):
        path = sweep(tmp_path, ["params"], faults, 60)
        codes[name] = bench("run", path, "--out", tmp_path / name).returncode
    assert codes == {"well": 0, "some": 3, "mixed": 3}
    path.write_text(
        path.read_text().replace('fault = ["none", "raise"]', 'fault = "raise"').replace("linear", "faulty")
    )
    path.write_text(path.read_text().replace('algebra = "real"', 'fault = "kill"'))
    assert bench("run", path, "--out", tmp_path / "none").returncode == 4
    assert bench("run", path, "--out", tmp_path / "none", "--shard", "3/2").returncode == 2


def test_events_tell_a_program_everything_and_progress_tells_a_person(bench, tmp_path):
    path = sweep(tmp_path, ["params"], ["none", "kill", "raise"], 60)
    done = bench("run", path, "--out", tmp_path / "run", "--events", "-")
    assert done.returncode == 3
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[0]["event"], events[0]["total"], events[0]["done"]) == ("start", 4, 0)
    assert (events[-1]["event"], events[-1]["exit_code"], events[-1]["failed"]) == ("finish", 3, 2)
    kinds = [event["event"] for event in events]
    assert (kinds.count("begin"), kinds.count("again"), kinds.count("end")) == (4 + 2, 2, 4)
    assert [event["attempt"] for event in events if event["event"] == "begin"].count(3) == 1
    assert {status for event in events if event["event"] == "end" for status in event["statuses"].values()} == {
        "ok", "crashed", "error",
    }  # fmt: skip
    assert "[4/4, 0:00 left]" in done.stderr
    assert "signal 9" in done.stderr
    assert "ValueError: a fault" in done.stderr


def test_a_reader_of_events_that_goes_away_does_not_end_the_run(bench, tmp_path):
    path = sweep(tmp_path, ["params"], ["none"], 60)
    if not (full := __import__("pathlib").Path("/dev/full")).exists():
        pytest.skip("needs /dev/full")
    done = bench("run", path, "--out", tmp_path / "run", "--events", full)
    assert done.returncode == 0, done.stderr
    assert "--events: No space left on device; no more events are written" in done.stderr
    assert bench("run", path, "--events", tmp_path / "none" / "x").returncode == 2


def test_a_reader_of_standard_output_that_goes_away_changes_no_exit_code(bench, tmp_path):
    path = sweep(tmp_path, ["params"], ["none"], 60)
    running = bench.start("run", path, "--out", tmp_path / "run", "--events", "-", stderr=subprocess.PIPE)
    assert b'"start"' in running.stdout.readline()
    running.stdout.close()
    said = running.stderr.read().decode()
    assert running.wait(60) == 0, said
    assert "--events: Broken pipe; no more events are written" in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_a_sweep_cannot_have_code_loaded_that_the_user_did_not_name(bench, tmp_path):
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('was_here').touch(); SPECS = []")
    path = sweep(tmp_path, ["params"], ["none"], 60)
    path.write_text(path.read_text().replace('name = "faults"', 'name = "faults"\nplugins = ["evil:SPECS"]'))
    done = bench("list", path)
    assert done.returncode == 2
    assert "if you trust it, add --plugin evil:SPECS" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    path.write_text(path.read_text().replace("evil:SPECS", bench.plugin))
    assert bench("list", path).returncode == 0


@pytest.mark.parametrize("value", ["os", "os.system", "no_such:X", "phnn_faults.specs:FAULTS", "a b:c"])
def test_a_plugin_that_cannot_be_had_is_one_line(bench, tmp_path, value):
    path = sweep(tmp_path, ["params"], ["none"], 60)
    done = bench("list", path, "--plugin", value)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert value in done.stderr


def test_a_dry_run_says_what_it_would_do_and_leaves_no_trace(bench, tmp_path):
    path = sweep(tmp_path, ["params", "latency"], ["none"], 60)
    done = bench("run", path, "--out", tmp_path / "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "static    faulty: 1 tasks" in done.stdout
    assert re.search(r"4 tasks would be measured, in about [78] s; 0 are done", done.stdout)  # 8: one at a time
    assert not (tmp_path / "run").exists()


def test_shards_measure_everything_once(bench, tmp_path):
    path = sweep(tmp_path, ["params"], ["none"], 60)
    path.write_text(path.read_text().replace("channels = 8", "channels = [8, 16, 24]"))
    for number in (1, 2):
        assert bench("run", path, "--out", tmp_path / str(number), "--shard", f"{number}/2").returncode == 0
    ids = [line["task_id"] for number in (1, 2) for line in read_tasks(tmp_path / str(number))]
    assert len(ids) == len(set(ids)) == 6
    done = bench("run", path, "--out", tmp_path / "4", "--shard", "4/4")
    assert done.returncode == 2
    assert "has only 3 groups" in done.stderr


def test_what_hangs_is_not_waited_for_when_the_run_is_interrupted(bench, tmp_path):
    path = sweep(tmp_path, ["params"], ["hang"], 600)
    running = bench.start("run", path, "--out", tmp_path / "run", "--events", tmp_path / "events")
    begun = time.monotonic()
    while '"begin"' not in (tmp_path / "events").read_text() if (tmp_path / "events").exists() else True:
        assert time.monotonic() - begun < 60
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(2)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert b"interrupted; what was finished is kept" in output
