"""A disk that fills up under a run: one line, nothing torn, and the same command goes on once there is room."""

import subprocess
from collections import Counter

import pytest

from bench.store.folder import read_tasks

SWEEP = """
schema = 1
name = "full-disk"
title = "many small answers"
[protocol]
processes = 2
timeout = 100
[[cases]]
subject = "faulty"
metrics = ["params", "latency"]
[cases.axes]
channels = 8
batch = 2
number = [{numbers}]
"""

CASES = 40


@pytest.fixture
def disk(tmp_path):
    """A file system of 56 KiB, and a way to give it more."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"only root may mount a small disk: {done.stderr.strip()}")

    mount("size=56k")
    yield folder, lambda: mount("remount,size=16m")
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_run_stops_with_one_line_and_goes_on_when_there_is_room(bench, disk, tmp_path):
    folder, enlarge = disk
    path = tmp_path / "full-disk.toml"
    path.write_text(SWEEP.format(numbers=", ".join(map(str, range(1, CASES + 1)))))
    full = bench("run", path, "--out", folder / "run")
    assert full.returncode == 2, full.stderr
    told = [line for line in full.stderr.splitlines() if line.startswith("bench:")]
    assert len(told) == 1
    assert "cannot be written (No space left on device): what was finished before is kept" in told[0]
    assert "Traceback" not in full.stderr
    kept = (folder / "run" / "tasks.jsonl").read_bytes()
    assert kept.endswith(b"\n"), "some were finished, and none is torn"
    enlarge()
    done = bench("run", path, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "tasks.jsonl").read_bytes().startswith(kept)
    found = Counter(line["task_id"] for line in read_tasks(folder / "run"))
    assert len(found) == found.total() == CASES + 2 * 5, "of five chunks"
