"""Energy of one call, by the counters that the hardware keeps: the GPU's board (NVML), the CPU's packages (RAPL).

    call until the counter has just moved
    until WINDOW seconds and TICKS steps of the counter have passed, and it has just moved again:
        a block of calls; wait for the device; read the counter
    energy = what the counter rose by / calls made

A counter moves in steps, some 100 ms apart on a GPU: a window that begins and ends with a step, many steps apart, is
known to a block, whereas one of a few milliseconds reads zero. What is read is all that the board or the packages
took, the idle share included, and whatever else ran on them. Where there is no counter there is a reason, never a
zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from phnn.timing import no_sync

from ..machine import nvml
from ..machine.nvml import AbsentError

WINDOW = 2.0  # seconds
TICKS = 10
BLOCK = 0.01  # seconds between two looks at the counter
_STILL = 2.0  # seconds after which a counter that has not moved is taken for dead

_POWERCAP = Path("/sys/class/powercap")
Counter = Callable[[], float]


@dataclass(frozen=True)
class Energy:
    """Joules per call, and the window that they come from."""

    joules: float
    calls: int
    seconds: float
    ticks: int


def per_call(
    call: Callable[[], object],
    counter: Counter,
    *,
    sync: Callable[[], None] = no_sync,
    clock: Callable[[], float] = time.perf_counter,
    window: float = WINDOW,
) -> Energy:
    """Energy of one call. counter: joules since some moment, which never falls. AbsentError if it does not move."""
    calls = _block_of(call, sync, clock)

    def until_it_moves(value: float) -> tuple[float, int]:
        """The counter's next value, and how many blocks ran until then."""
        blocks, started = 0, clock()
        while (now := counter()) == value:
            if clock() - started > _STILL:
                raise AbsentError(f"the energy counter did not move in {_STILL:g} s of work")
            for _ in range(calls):
                call()
            sync()
            blocks += 1
        return now, blocks

    first, _ = until_it_moves(counter())
    started, last, blocks, ticks = clock(), first, 0, 0
    while clock() - started < window or ticks < TICKS:
        last, more = until_it_moves(last)
        blocks, ticks = blocks + more, ticks + 1
    seconds = clock() - started
    return Energy((last - first) / (blocks * calls), blocks * calls, seconds, ticks)


def _block_of(call: Callable[[], object], sync: Callable[[], None], clock: Callable[[], float]) -> int:
    """The number of calls that fill BLOCK; the first ones warm up."""
    calls = 1
    while True:
        started = clock()
        for _ in range(calls):
            call()
        sync()
        if clock() - started >= BLOCK:
            return calls
        calls *= 2


def counter_of(device: str) -> Counter:
    """The energy counter of a device, in joules; AbsentError, with the reason, where it has none."""
    return nvml_counter(nvml.current_gpu()) if device == "cuda" else Rapl.found().joules


def sync_of(device: str) -> Callable[[], None]:
    """What waits until the device has finished."""
    return torch.cuda.synchronize if device == "cuda" else no_sync


def nvml_counter(gpu: nvml.Gpu) -> Counter:
    """The board's energy since the driver was loaded."""

    def joules() -> float:
        return gpu.ask("DeviceGetTotalEnergyConsumption") * 1e-3  # mJ

    joules()  # some boards have none: better found now
    return joules


@dataclass
class _Zone:
    """One RAPL domain: its counter in microjoules wraps around at ``range_``."""

    file: Path
    range_: int
    last: int
    total: int = 0

    def advance(self) -> int:
        """Microjoules since the first look; right as long as looks are less than one turn apart (minutes)."""
        now = int(self.file.read_text())
        self.total += (now - self.last) % (self.range_ + 1)
        self.last = now
        return self.total


@dataclass
class Rapl:
    """The CPU's packages and, where it is counted apart, their memory.

    Source: Documentation/power/powercap/powercap.rst of Linux.
    """

    zones: list[_Zone] = field(default_factory=list)

    @classmethod
    def found(cls, root: Path = _POWERCAP) -> Rapl:
        """The domains of this machine; AbsentError where there are none, or they may not be read."""
        zones = []
        for folder in sorted(root.glob("intel-rapl:*")):  # so called on AMD too
            try:
                if not (folder / "name").read_text().startswith(("package", "dram")):
                    continue  # core and uncore are parts of a package, psys is all of it once more
                file = folder / "energy_uj"
                zones.append(_Zone(file, int((folder / "max_energy_range_uj").read_text()), int(file.read_text())))
            except PermissionError:
                raise AbsentError(
                    f"{folder / 'energy_uj'} may be read by root alone: chmod o+r it, or run as root"
                ) from None
            except (OSError, ValueError) as error:
                raise AbsentError(f"{folder} cannot be read: {error}") from None
        if not zones:
            raise AbsentError(f"no RAPL counter in {root}: virtual machines and many processors have none")
        return cls(zones)

    def joules(self) -> float:
        """Joules of all domains since they were found."""
        return sum(zone.advance() for zone in self.zones) * 1e-6
