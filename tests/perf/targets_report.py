"""Targets of the report: how long it takes on a stored table of 10,000 and of 1,000,000 records, and what it holds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from targets import Figure, Target

ROOT = Path(__file__).resolve().parents[2]
_MADE = ROOT / "tests" / "harness" / "support" / "made_tables.py"

# the child writes its own peak: RUSAGE_CHILDREN would be the largest of all children of this process
_RUN = """
import resource, sys
sys.argv = ["bench", "report", sys.argv[1], "--out", sys.argv[2]]
from bench.cli import main
try:
    main()
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@cache
def _report(records: int) -> tuple[float, float]:
    """Seconds and bytes of one report, in a process of its own; the table is made before."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(_MADE), str(records), folder], check=True, cwd=ROOT)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _RUN, folder, f"{folder}/out"],
            check=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        spent = time.perf_counter() - started
    return spent, float(done.stdout.rsplit("PEAK", 1)[1])


def _seconds(records: int) -> Callable[[], Figure]:
    return lambda: Figure(_report(records)[0], remark="taken once")


def _gigabytes() -> Figure:
    return Figure(_report(1_000_000)[1] / 1e9, remark="taken once")


TARGETS = [
    Target("bench report on 10,000 records", "s", 20.0, _seconds(10_000)),
    Target("bench report on 1,000,000 records", "s", 90.0, _seconds(1_000_000)),
    Target("peak memory of that", "GB", 4.0, _gigabytes),
]
