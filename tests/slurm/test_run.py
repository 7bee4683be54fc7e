"""``bench run --on slurm`` as a person types it, on a real SLURM: whatever befalls its jobs, the sweep completes."""

import json
import os
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest

from bench.store.folder import read_tasks

pytestmark = pytest.mark.system("slurmctld")


@pytest.fixture
def start(files, tmp_path, tied):
    """Start the command of the page, in the background; what is still there at the end is killed."""
    sweep, profile = files
    running = []

    def begin(*more):
        command = [sys.executable, "-m", "bench", "run", sweep, "--on", "slurm", "--profile", profile, *more]
        log = (tmp_path / "log").open("ab")
        command = [*map(str, command), "--out", str(tmp_path / "run")]
        running.append(subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=tied))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()


def test_a_sweep_over_two_kinds_of_machine_completes_whatever_befalls_its_jobs(cluster, start, tmp_path):
    def told():
        return (tmp_path / "log").read_text()

    def submitted():
        return {job for job, *_ in cluster.jobs()} - earlier

    earlier = {job for job, *_ in cluster.jobs()}
    parent = start()
    first = cluster.running("node1")
    cluster.do("scancel", first)  # a job is killed midway
    cluster.running("node2")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    before = {job for job, state, *_ in cluster.jobs() if state in ("PENDING", "RUNNING")}
    assert before, "its jobs go on"

    parent = start()
    job = cluster.running("node2")
    cluster.lose("node2")
    cluster.wait(lambda: (job, "PENDING") in {(j, state) for j, state, *_ in cluster.jobs()})
    cluster.bring_back("node2")
    assert parent.wait(240) == 0, told()

    lines = read_tasks(tmp_path / "run")
    done = [(line["task_id"], line["hardware"]) for line in lines]
    assert len(done) == len(set(done)) == 2 * (2 + 2), "two counted and two timed tasks on each kind, each once"
    assert all(result["status"] == "ok" for line in lines for result in line["results"])
    envs = {kind: {line["env_id"] for line in lines if line["hardware"] == kind} for kind in ("small", "large")}
    assert all(len(ids) == 1 for ids in envs.values()), "what is counted and what is timed is of one machine"
    threads = {
        line["hardware"]: {result["details"]["threads"] for result in line["results"]}
        for line in lines
        if line["kind"] == "timing"
    }
    assert threads["small"] == {1}, "all cores of the node, not those of the machine that submits"
    for env_id in envs["small"] | envs["large"]:
        assert (tmp_path / "run" / "envs" / f"{env_id}.json").exists()
    table = pd.read_csv(tmp_path / "run" / "table.csv")
    assert set(table.env_id) <= envs["small"] | envs["large"]
    if len(os.sched_getaffinity(0)) > 1:
        assert envs["small"] != envs["large"]
    jobs = submitted()
    # of each kind a bundle of counted tasks and two timed ones; one was cancelled and its tasks had a job each
    assert len(jobs) <= 2 * 3 + 2, jobs
    assert before <= jobs
    assert list((tmp_path / "run" / "spool").iterdir()) == []

    assert start().wait(60) == 0
    assert "0 measured now" in told()
    assert submitted() == jobs, "what is done is not submitted"


@pytest.mark.skipif("not config.getoption('--full')", reason="what the others do, as the page types it: --full")
def test_the_commands_of_the_page_work_beside_another_cluster(cluster, page, files, tmp_path, tied):
    (block,) = re.findall(r"<!-- try -->\n```sh\n(.*?)^```", page, re.M | re.S)
    install, *rest = block.splitlines()
    assert install.startswith("apt-get install ")
    (tmp_path / "bench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bench "$@"\n')
    (tmp_path / "bench").chmod(0o755)
    script = "\n".join(["set -e", *rest]).replace("/tmp/lab", str(tmp_path / "lab"))
    script = script.replace("lab-sweep.toml", str(files[0])).replace("lab.toml", str(files[1]))
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    del environment["SLURM_CONF"]
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=300, env=environment, preexec_fn=tied
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "records: 16 ok" in done.stdout, done.stdout + done.stderr
    lines = [json.loads(text) for text in (tmp_path / "lab" / "run" / "tasks.jsonl").read_text().splitlines()]
    assert {line["hardware"] for line in lines} == {"small", "large"}
    assert not list((tmp_path / "lab").glob("*.pid")), "its daemons are ended"


def test_interrupted_it_cancels_its_jobs(cluster, start):
    parent = start()
    cluster.running("node1")
    parent.send_signal(signal.SIGINT)
    assert parent.wait(60) == 130
    assert not {state for _, state, *_ in cluster.jobs()} & {"PENDING", "RUNNING"}
    cluster.wait(lambda: not cluster.workers(), 10)
