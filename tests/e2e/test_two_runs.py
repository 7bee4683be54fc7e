"""Two runs of one sweep into one folder at the same time, each a command of its own."""

import subprocess
import sys
from collections import Counter

import bench
from bench.store.folder import read_tasks

SWEEP = """
schema = 1
name = "shared"
title = "two at once"
[protocol]
processes = 2
budget = 0.05
precision = 0.5
[[cases]]
subject = "linear"
metrics = ["params", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion"]
channels = 8
batch = 2
"""


def test_two_runs_into_one_folder_measure_each_task_once(tmp_path):
    (tmp_path / "shared.toml").write_text(SWEEP)
    command = [sys.executable, "-m", "bench", "run", str(tmp_path / "shared.toml"), "--out", str(tmp_path / "run")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [(*run.communicate(timeout=300), run.returncode) for run in runs]
    assert all("Traceback" not in stderr for _, stderr, _ in told), told
    assert 0 in [code for *_, code in told], told
    found = Counter(line["task_id"] for line in read_tasks(tmp_path / "run"))
    assert set(found.values()) == {1}
    assert found.total() == 2 + 2, "a static task a case, a timing a process"
    assert set(bench.load(tmp_path / "run")["status"]) == {"ok"}
    assert not list((tmp_path / "run" / "claims").iterdir())
