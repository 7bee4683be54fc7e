"""What runs on the other core: ``python -m bench.check.load`` works in bursts until its standard input ends.

A steady load would cancel in every ratio. This one comes and goes at random, copies more than a cache holds, and so
takes its share of what the cores have in common.
"""

from __future__ import annotations

import os
import random
import threading
import time

import numpy as np

from ..task.parent import follow_parent

_BYTES = 64 << 20


def take_last_core() -> None:
    """Stay on one core, where the system lets a process say so: the timed process then has the others."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def work(rng: random.Random) -> None:
    """Bursts of 20 to 500 ms with pauses of 5 to 200 ms, for ever."""
    source, target = np.ones(_BYTES // 8), np.empty(_BYTES // 8)
    while True:
        until = time.monotonic() + rng.uniform(0.02, 0.5)
        while time.monotonic() < until:
            np.multiply(source, 1.0000001, out=target)
        time.sleep(rng.uniform(0.005, 0.2))


if __name__ == "__main__":
    threading.Thread(target=follow_parent, daemon=True).start()
    take_last_core()
    work(random.Random(0))
