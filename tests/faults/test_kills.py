"""SIGKILL at random moments, to workers, to the run, to both: nothing is lost, repeated or called what it is not.

``make test-faults`` kills 500 times; ``make test`` 30 times.
"""

import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from bench.store.folder import read_plan, read_tasks
from bench.table.records import derive

SWEEP = """
schema = 1
name = "kills"
title = "short sleeps, and a few faults"
[protocol]
processes = 2
timeout = 100
[[cases]]
subject = "linear"
metrics = ["params", "latency", "latency_ratio"]
[cases.axes]
algebra = "real"
channels = [8, 16]
batch = 2
[[cases]]
subject = "faulty"
metrics = ["params", "latency", "latency_ratio"]
[cases.axes]
channels = [8, 16]
batch = 2
seconds = {seconds}
number = [1, 2, 3, 4]
[[cases]]
subject = "faulty"
metrics = ["params", "latency", "latency_ratio"]
[cases.axes]
channels = 16
batch = 2
fault = ["kill", "raise"]
"""

MEASURED = ("value", "lo", "hi", "samples", "marks", "details", "started")
DEATHS = 2  # of one task under one run that are not its own: the third would call it crashed, and rightly

# full: how many kills with light workers, and with real ones
KILLS = {"light": (30, 440), "real": (0, 60)}


def workers(parent):
    """The processes that measure for a run, and those that fork them, with the tasks that their logs are of."""
    found = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in parent.children(recursive=True):
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                task = task_of(process)
                forks = [task_of(child) for child in process.children()]
                if task or "bench.task.forker" in process.cmdline():
                    found[process.pid] = task or next(filter(None, forks), "")
    return found


def task_of(process):
    match = re.search(r"logs/([0-9a-f]{12})[.\d]*log$", os.readlink(f"/proc/{process.pid}/fd/1"))
    return match[1] if match else ""


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Killer:
    """Runs a sweep again and again, and kills, until it is done."""

    def __init__(self, bench, path, rng, light):
        self.bench, self.path, self.rng, self.light = bench, path, rng, light
        self.kills = 0

    def through(self, folder, most):
        """A sweep in ``folder`` to its end; no more kills than ``most``."""
        kept = b""
        for _ in range(1000):
            run = self.bench.start("run", self.path, "--out", folder, light=self.light)
            self.harass(run, most)
            output, _ = run.communicate(timeout=300)
            now = (folder / "tasks.jsonl").read_bytes() if (folder / "tasks.jsonl").exists() else b""
            assert now.startswith(kept), "a finished task was lost or changed"
            kept = now[: now.rfind(b"\n") + 1]
            if run.returncode != -signal.SIGKILL:
                assert run.returncode == 3, output.decode()
                return
        raise AssertionError("it never ended")

    def harass(self, run, most):
        """Kill now and then until the run has ended, by itself or by us."""
        hit = Counter()
        while run.poll() is None and self.kills < most:
            time.sleep(self.rng.uniform(0, 1.2 if self.light else 6))
            parent = psutil.Process(run.pid) if run.poll() is None else None
            if parent is None:
                return
            how = self.rng.choice(["worker", "worker", "parent", "both"])
            if how != "parent":
                mine = [(pid, task) for pid, task in workers(parent).items() if hit[task] < DEATHS]
                if mine:
                    pid, task = self.rng.choice(mine)
                    hit[task] += bool(task)
                    kill(pid)
                    self.kills += 1
            if how != "worker":
                kill(run.pid)
                self.kills += 1
                return


def table(folder):
    """All rows but for what was measured, when, and in how many attempts."""
    rows = derive(read_plan(folder), read_tasks(folder))
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def without_paths(rows):
    """Reasons say how often a process died, and name its log."""
    return [{**row, "reason": re.sub(r"(at \w+|before its first case).*", "", row["reason"])} for row in rows]


@pytest.mark.parametrize("kind", KILLS)
def test_a_sweep_survives_sigkill_at_any_moment(bench, tmp_path, request, kind):
    few, many = KILLS[kind]
    wanted = many if request.config.getoption("--full") else few
    if not wanted:
        pytest.skip("with --full: make test-faults")
    light = kind == "light"
    path = tmp_path / "kills.toml"
    path.write_text(SWEEP.format(seconds=0.02))
    undisturbed = bench("run", path, "--out", tmp_path / "undisturbed", light=light)
    assert undisturbed.returncode == 3, undisturbed.stderr
    expected = without_paths(table(tmp_path / "undisturbed"))
    assert Counter(row["status"] for row in expected) == EXPECTED[kind]
    tasks = [line["task_id"] for line in read_tasks(tmp_path / "undisturbed")]
    assert len(tasks) == len(set(tasks))

    killer = Killer(bench, path, random.Random(len(tasks)), light)
    sweeps = 0
    while killer.kills < wanted:
        folder = tmp_path / f"killed-{sweeps}"
        killer.through(folder, wanted)
        sweeps += 1
        found = [line["task_id"] for line in read_tasks(folder)]
        assert sorted(found) == sorted(tasks), "lost or repeated"
        assert without_paths(table(folder)) == expected
        assert not list(Path(folder).glob("**/*.tmp"))
    assert killer.kills >= wanted
    print(f"{killer.kills} kills over {sweeps} sweeps")


# 2 real and 8 faulty layers that sleep are well, each in three metrics and numeric_error; two fail in all four, but
# that a real worker counts the parameters of one that raises when it is called
EXPECTED = {
    "light": {"ok": 10 * 4, "crashed": 4, "error": 4},
    "real": {"ok": 10 * 4 + 1, "crashed": 4, "error": 3},
}
