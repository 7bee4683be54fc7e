"""Is anything else running? What other processes and other guests take of this machine while the check sleeps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from ..stats import mean_interval
from .judge import Finding

SLICES, SECONDS = 10, 0.2


@dataclass(frozen=True)
class Slice:
    """A short while: cores kept busy by others, and the share of the machine that its host gave to other guests."""

    busy: float
    steal: float


def slice_between(before: Any, after: Any, own: float) -> Slice:
    """From two readings of psutil.cpu_times() and the CPU seconds that this process used between them.

    The readings sum over all cores; a core that nobody uses is idle or waits for a disk.
    """

    def passed(name: str) -> float:
        return getattr(after, name, 0.0) - getattr(before, name, 0.0)

    # guest time is part of user time already
    total = sum(passed(name) for name in after._fields if not name.startswith("guest"))
    resting = passed("idle") + passed("iowait") + passed("steal")
    if total <= 0:
        return Slice(0.0, 0.0)
    cores = os.cpu_count() or 1
    seconds = total / cores
    return Slice(max(0.0, (total - resting - own) / seconds), passed("steal") / total)


def watch(slices: int = SLICES, seconds: float = SECONDS, sleep: Callable[[float], None] = time.sleep) -> list[Slice]:
    """Slices of the machine at rest."""
    found = []
    before, own = psutil.cpu_times(), time.process_time()
    for _ in range(slices):
        sleep(seconds)
        after, own_after = psutil.cpu_times(), time.process_time()
        found.append(slice_between(before, after, own_after - own))
        before, own = after, own_after
    return found


def findings(slices: Sequence[Slice], load: float) -> list[Finding]:
    """Whether the machine is idle enough to be measured on; load: its load average over a minute."""
    return [
        Finding(
            "other processes", "cores", mean_interval([s.busy for s in slices]), 0.2, f"load average {load:.2f}",
            "stop what else runs, or use a machine of its own",
        ),
        Finding(
            "time stolen by the host", "share", mean_interval([s.steal for s in slices]), 0.02, "",
            "other guests share this virtual machine's host: take a dedicated one, or another hour",
        ),
    ]  # fmt: skip
