"""The kernel's count of processes that it killed for want of memory."""

from __future__ import annotations

import contextlib
from pathlib import Path


def kills(root: Path = Path("/")) -> int:
    """How many there have been, of our control group where the kernel counts them, else of the whole machine.

    0 where nothing is counted. A rise between two looks says that some process was killed so, not which.
    """
    for path, key in _counters(root):
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split() for line in path.read_text().splitlines() if len(line.split()) == 2)
            if key in counts:
                return int(counts[key])
    return 0


def _counters(root: Path) -> list[tuple[Path, str]]:
    """Files that count, the nearest first: the group as seen from outside and from inside a container, v2 and v1."""
    groups = {"": "/", "memory": "/"}
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups |= dict.fromkeys(controllers.split(","), path)
    v2, v1 = root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"
    return [
        (v2 / groups[""].lstrip("/") / "memory.events", "oom_kill"),
        (v2 / "memory.events", "oom_kill"),
        (v1 / groups["memory"].lstrip("/") / "memory.oom_control", "oom_kill"),
        (v1 / "memory.oom_control", "oom_kill"),
        (root / "proc/vmstat", "oom_kill"),
    ]
