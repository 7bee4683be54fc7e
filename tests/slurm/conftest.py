"""A real SLURM of two nodes on this machine, started once and ended whatever happens."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parent / "two-node-cluster"

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
SHOWN = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S))


class Cluster:
    """What a test does to the cluster whose state is in ``folder``."""

    def __init__(self, folder):
        self.folder, self.conf = folder, str(folder / "slurm.conf")

    def do(self, *command):
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def jobs(self):
        """(job, state, node, name) of all, those too that ended a while ago."""
        lines = self.do("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%N|%j").splitlines()
        return [tuple(line.split("|")) for line in lines]

    def running(self, node, timeout=180):
        """The first job that runs on a node, waited for."""
        return self.wait(
            lambda: next((job for job, state, on, _ in self.jobs() if (state, on) == ("RUNNING", node)), None),
            timeout,
        )

    def workers(self):
        """What of ours measures on a node."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") == self.conf and "SLURM_JOB_ID" in process.environ():
                    found += [process] if "bench." in " ".join(process.info["cmdline"] or []) else []
        return found

    def wait(self, look, timeout=180):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(0.1)
        raise TimeoutError(f"not within {timeout} s: {self.jobs()}")

    def lose(self, node):
        """The node dies: its daemon and all processes that it started, at once and without a word."""
        raw = {line.split("|")[0] for line in self.do("squeue", "-h", "-t", "R", "-w", node, "-o", "%A").splitlines()}
        self.end_daemon(node)
        for process in psutil.process_iter(["name", "cmdline"]):
            with contextlib.suppress(psutil.Error):
                if process.info["name"] == "slurmstepd":
                    ours = any(f"[{job}." in " ".join(process.info["cmdline"] or []) for job in raw)
                else:
                    given = process.environ()
                    ours = given.get("SLURM_CONF") == self.conf and given.get("SLURMD_NODENAME") == node
                if ours:
                    process.kill()
        self.do("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def end_daemon(self, node):
        pid = int((self.folder / f"slurmd-{node}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)

    def bring_back(self, node):
        cores = ["taskset", "-c", "0"] if node == "node1" else []
        self.do(*cores, "slurmd", "-N", node, "-f", self.conf)

    def is_up(self, node):
        return self.do("sinfo", "-h", "-n", node, "-o", "%t").strip() in ("idle", "alloc", "mix", "comp")


def free_ports():
    """The first of three ports in a row that nobody listens on."""
    for port in range(16817, 20000, 7):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for offset, each in enumerate((one, two, three)):
                    each.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
    raise RuntimeError("no three ports in a row are free")


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PORT")}
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "PORT": str(free_ports())}
    try:
        started = subprocess.run(
            ["bash", str(SCRIPT), "start", str(folder)], capture_output=True, text=True, timeout=120
        )
        assert started.returncode == 0, started.stderr
        yield Cluster(folder)
    finally:
        subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], capture_output=True, timeout=60)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.fixture
def cluster(running_cluster):
    """The cluster with both nodes up and nothing in its queue, before and after."""
    yield running_cluster
    left = [job for job, state, *_ in running_cluster.jobs() if state in ("PENDING", "RUNNING")]
    if left:
        subprocess.run(["scancel", *left], timeout=60)
    for node in ("node1", "node2"):
        if not running_cluster.is_up(node):
            running_cluster.bring_back(node)
    running_cluster.wait(lambda: running_cluster.do("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2", 90)


@pytest.fixture
def files(tmp_path):
    """The sweep and the profile that the page on clusters shows for these two nodes."""
    for name in ("lab-sweep.toml", "lab.toml"):
        (tmp_path / name).write_text(SHOWN[name])
    return tmp_path / "lab-sweep.toml", tmp_path / "lab.toml"
