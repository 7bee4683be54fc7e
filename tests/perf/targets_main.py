"""Targets of the main path: how soon the command line answers, and how long the quick sweep takes."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from targets import Target

from bench.stats import Interval, log_interval

SWEEPS = Path(__file__).resolve().parents[2] / "bench" / "sweeps"


def _wall(*args: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bench", *args], check=True, capture_output=True)
    return time.perf_counter() - started


def help_seconds() -> Interval:
    _wall("--help")
    return log_interval([_wall("--help") for _ in range(7)])


def list_seconds() -> Interval:
    _wall("list", str(SWEEPS / "quick.toml"))
    return log_interval([_wall("list", str(SWEEPS / "quick.toml")) for _ in range(7)])


def quick_seconds() -> Interval:
    """One run, from nothing to the figures: it takes minutes, so it is not repeated and has no interval."""
    with tempfile.TemporaryDirectory() as folder:
        return Interval(_wall("run", str(SWEEPS / "quick.toml"), "--out", f"{folder}/run"), math.nan, math.nan)


TARGETS = [
    Target("python -m bench --help", "s", 1.0, help_seconds),
    Target("bench list bench/sweeps/quick.toml", "s", 2.0, list_seconds),
    Target("the quick sweep, from an empty folder", "s", 240.0, quick_seconds),
]
