"""Targets of the main path: how soon the command line answers, and how long the quick sweep takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from targets import Figure, Target

from bench.stats import log_interval

SWEEPS = Path(__file__).resolve().parents[2] / "bench" / "sweeps"


def _wall(*args: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bench", *args], check=True, capture_output=True)
    return time.perf_counter() - started


def _repeated(*args: str) -> Figure:
    _wall(*args)  # the first call fills the disk cache
    found = log_interval([_wall(*args) for _ in range(7)])
    return Figure(found.value, found.lo, found.hi)


def help_seconds() -> Figure:
    return _repeated("--help")


def list_seconds() -> Figure:
    return _repeated("list", str(SWEEPS / "quick.toml"))


def quick_seconds() -> Figure:
    """One run, from nothing to the figures: it takes minutes, so it is not repeated and has no interval."""
    with tempfile.TemporaryDirectory() as folder:
        return Figure(_wall("run", str(SWEEPS / "quick.toml"), "--out", f"{folder}/run"))


TARGETS = [
    Target("python -m bench --help", "s", 1.0, help_seconds),
    Target("bench list bench/sweeps/quick.toml", "s", 2.0, list_seconds),
    Target("the quick sweep, from an empty folder", "s", 240.0, quick_seconds),
]
