"""Small sweeps and finished tasks made by hand, so that the harness is tested without measuring."""

import importlib.util
import sys
from pathlib import Path

import pytest

from bench import sweep as sweeps

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
    return sweeps.expand(sweeps.load(tiny))


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
def fake_nvml():
    """The module beside this one that stands for nvidia-ml-py's."""
    path = Path(__file__).parent / "fake_nvml.py"
    spec = importlib.util.spec_from_file_location("fake_nvml", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
