"""How large the caches are: from the operating system, and where it does not say, from a sweep of bandwidths."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_FALL = 1.5  # a cache that is not this much faster than memory cannot be told from it


def from_os(cpus: Path = _CPUS) -> dict[str, int]:
    """Name (L1d, L2, L3) → bytes of one such cache as the first core sees it; empty where the system does not say.

    Source: Documentation/ABI/testing/sysfs-devices-system-cpu of Linux.
    """
    found: dict[str, int] = {}
    for index in sorted((cpus / "cpu0" / "cache").glob("index*")):
        with contextlib.suppress(OSError, ValueError):  # a virtual machine may list a cache without its size
            kind = (index / "type").read_text().strip()
            if kind in ("Data", "Unified"):
                level = int((index / "level").read_text())
                found[f"L{level}{'d' if kind == 'Data' and level == 1 else ''}"] = _bytes(
                    (index / "size").read_text()
                )
    return {name: size for name, size in found.items() if size}


def last_level(cpus: Path = _CPUS) -> int:
    """Bytes of all last-level caches together (a server has many); 0 where the system does not say."""
    found: dict[tuple[int, str], int] = {}
    for index in cpus.glob("cpu[0-9]*/cache/index*"):
        with contextlib.suppress(OSError, ValueError):
            cores = (index / "shared_cpu_list").read_text().strip()
            found[int((index / "level").read_text()), cores] = _bytes((index / "size").read_text())
    highest = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == highest)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size")
    return int(match[1]) * _UNITS[match[2]]


def from_bandwidths(bandwidths: Mapping[int, float]) -> int | None:
    """The last-level cache by what reading a working set of each size yields (bytes → B/s); None where none shows.

    It is the largest working set that is read _FALL times as fast as the largest of all, which is memory's. As the
    sizes of a sweep double, what is found lies between the true size and half of it.
    """
    memory = bandwidths[max(bandwidths)]
    return max((size for size, rate in bandwidths.items() if rate >= _FALL * memory), default=None)
