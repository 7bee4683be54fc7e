"""Two runs into one folder: they share its tasks, and one that is killed leaves its part to the other."""

import signal
import time
from collections import Counter

from bench.store.folder import read_tasks

SWEEP = """
schema = 1
name = "two-runs"
title = "short sleeps"
[protocol]
processes = 3
timeout = 100
[[cases]]
subject = "faulty"
metrics = ["params", "latency"]
[cases.axes]
channels = [8, 16]
batch = 2
seconds = 0.05
number = [1, 2, 3]
"""

TASKS = 2 * 3 + 2 * 3  # a case each; two groups in three processes


def started(bench, tmp_path):
    """Two runs that have both begun, and their folder."""
    path, folder = tmp_path / "two-runs.toml", tmp_path / "run"
    path.write_text(SWEEP)
    runs = [bench.start("run", path, "--out", folder) for _ in range(2)]
    end = time.monotonic() + 60
    while len(list((folder / "claims").glob("*.jsonl")) if folder.exists() else []) < 2:
        assert time.monotonic() < end, "two runs never worked side by side"
        assert all(run.poll() is None for run in runs), runs[0].communicate()
        time.sleep(0.01)
    return path, folder, runs


def done(folder):
    return Counter(line["task_id"] for line in read_tasks(folder))


def test_two_runs_share_the_tasks_and_repeat_none(bench, tmp_path):
    _, folder, runs = started(bench, tmp_path)
    said = [run.communicate(timeout=120)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    found = done(folder)
    assert len(found) == found.total() == TASKS
    assert not list((folder / "claims").iterdir())


def test_what_a_killed_run_had_claimed_is_done_by_the_other(bench, tmp_path):
    path, folder, runs = started(bench, tmp_path)
    runs[0].send_signal(signal.SIGKILL)
    runs[0].communicate()
    said = runs[1].communicate(timeout=120)[0].decode()
    assert runs[1].returncode == 0, said
    found = done(folder)
    assert len(found) == found.total() == TASKS
    assert bench("run", path, "--out", folder).returncode == 0
    assert done(folder) == found, "nothing was left"
