"""Small sweeps and finished tasks made by hand, so that the harness is tested without measuring."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from bench.launch.engine import Order
from bench.metrics import METRICS
from bench.plan import expansion
from bench.plan import sweep as sweeps
from bench.plan.case import tasks
from bench.task.protocol import Request

sys.path.insert(0, str(Path(__file__).parent / "support"))

TINY = """
schema = 1
name = "tiny"
title = "a test"
[protocol]
processes = 2
budget = 0.05
precision = 0.5
timeout = 120
[[cases]]
subject = "linear"
metrics = ["params", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion", "ph"]
n = [2, 4]
channels = 8
batch = 2
"""


@pytest.fixture
def tiny(tmp_path):
    """A sweep of four cases: its path and its text, to be edited."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def planned(tiny):
    return expansion.expand(sweeps.load(tiny))


@pytest.fixture
def cluster():
    """A cluster that the test plays."""
    from clusters import Played

    return Played()


@pytest.fixture
def orders(planned):
    """The tasks of the tiny sweep as orders: four static ones, then two that are timed."""
    kinds = {name: metric.task for name, metric in METRICS.items()}
    protocol = sweeps.Protocol(processes=2, budget=0.05, precision=0.5, timeout=120)
    made = tasks(planned, protocol.processes, kinds, {})
    return [Order(t.id, 1, Request.of(t, "cpu", 4, protocol, None)) for t in made]


@pytest.fixture
def edited(tiny):
    """Write the tiny sweep with one text replaced by another, and give its path."""

    def edit(old: str, new: str):
        text = tiny.read_text()
        assert old in text, f"the tiny sweep has no {old!r}"
        tiny.write_text(text.replace(old, new))
        return tiny

    return edit


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def fake_nvml():
    """The module beside this one that stands for nvidia-ml-py's."""
    path = Path(__file__).parent / "fake_nvml.py"
    spec = importlib.util.spec_from_file_location("fake_nvml", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
