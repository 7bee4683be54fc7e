"""What happened to the machine while something was timed: who else used it, and did it slow itself down?

The operating system and the GPU keep counters (CPU time, steal, throttle events, violation times), so a look before
and a look after tell of all the time between, and nothing runs meanwhile. Clocks, temperatures and load averages are
no counters: they are what they were at the two looks. The cores are those that this process may run on: of a large
machine a container may have some, and what its neighbours do on the others is no concern of ours.

    contended    other processes used FOREIGN_CPU of the cores' time or more, or FOREIGN_CORES of a core on a machine
                 of many; the hypervisor kept STEAL of their time or more back; another process computed on the GPU
    throttled    the CPU counted a throttle event or its fastest core's clock fell by more than CLOCK_FALL; the GPU
                 was held back for power or heat: for VIOLATED of the time, or at either look where that is uncounted
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from . import nvml

FOREIGN_CPU = 0.05  # of the cores' time, used by other processes: a twentieth of a core for each
FOREIGN_CORES = 0.2  # of one core, however many there are: a process that has a core to itself is never overlooked
STEAL = 0.02  # of the cores' time
CLOCK_FALL = 0.20  # a turbo that settles as all cores join in falls by less
VIOLATED = 0.01  # of the time between the looks

_CPUS = Path("/sys/devices/system/cpu")
_STAT = Path("/proc/self/stat")  # Documentation/filesystems/proc.rst of Linux: starttime in ticks since the boot
_BUSY = ("user", "nice", "system", "irq", "softirq")

# bits of nvmlClocksEventReasons (nvml.h; their values are part of its ABI)
_REASONS = {
    0x1: "gpu_idle", 0x2: "application_clocks", 0x4: "sw_power_cap", 0x8: "hw_slowdown", 0x10: "sync_boost",
    0x20: "sw_thermal_slowdown", 0x40: "hw_thermal_slowdown", 0x80: "hw_power_brake", 0x100: "display_clock",
}  # fmt: skip
_HELD_BACK = {"sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake"}
_POLICIES = {"power": 0, "thermal": 1}  # nvmlPerfPolicyType_t


@dataclass(frozen=True)
class Look:
    """The machine at one moment; counters count from some moment in the past, absent figures are absent keys.

    at: seconds of a steady clock; cores: that this process may run on; busy, stolen, own: CPU seconds of all that ran
    on them, of the hypervisor, of this process.
    """

    at: float
    cores: int
    busy: float
    own: float
    stolen: float | None = None
    load: float | None = None
    clock: float | None = None  # Hz, of the fastest core
    throttles: int | None = None
    gpu: Mapping[str, Any] = field(default_factory=dict)


def look(device: str, clock: Callable[[], float] = time.monotonic) -> Look:
    """The machine now; a few milliseconds."""
    # the GPU first: its clocks fall as soon as it has nothing to do
    gpu = _gpu() if device == "cuda" else {}
    cores = _our_cores(psutil.cpu_times(percpu=True))
    mine = os.times()
    return Look(
        at=clock(),
        cores=len(cores),
        busy=sum(getattr(times, name, 0.0) for times in cores for name in _BUSY),
        own=mine.user + mine.system,
        stolen=sum(times.steal for times in cores) if all(hasattr(times, "steal") for times in cores) else None,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        clock=_fastest_clock(),
        throttles=_throttle_events(),
        gpu=gpu,
    )


def age() -> float:
    """Seconds since this process was started, to a tick of the kernel's clock (10 ms)."""
    try:
        # the 22nd field, and the 20th after the name, which may hold anything but a last bracket
        started = int(_STAT.read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # not Linux: to a second
        return time.time() - psutil.Process().create_time()


def _our_cores(times: Sequence[Any]) -> Sequence[Any]:
    """Those of all cores' times that are of cores that this process may run on, as far as the system tells."""
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if not ours or max(ours) >= len(times):  # some cores are offline: which line is whose is not told
        return times
    return [times[core] for core in sorted(ours)]


def _fastest_clock() -> float | None:
    try:
        clocks = [core.current * 1e6 for core in psutil.cpu_freq(percpu=True)]
    except (OSError, NotImplementedError, AttributeError):  # AttributeError: psutil has none for this system
        return None
    return max(clocks, default=None) or None


def _throttle_events(cpus: Path = _CPUS) -> int | None:
    """How often cores and packages were slowed for heat since the start; None where the kernel does not count it."""
    counts = []
    for file in cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"):
        try:
            counts.append(int(file.read_text()))
        except (OSError, ValueError):
            return None
    return sum(counts) if counts else None


def _gpu() -> dict[str, Any]:
    """Clocks (Hz), what holds them back, temperature (degrees C), other processes, violation times (s)."""
    try:
        gpu = nvml.current_gpu()
    except nvml.AbsentError as absent:
        return {"absent": str(absent)}
    found: dict[str, Any] = {}
    questions: dict[str, Callable[[], Any]] = {
        "reasons": lambda: _reasons(gpu),
        "clock": lambda: gpu.ask("DeviceGetClockInfo", 1) * 1e6,  # NVML_CLOCK_SM
        "memory_clock": lambda: gpu.ask("DeviceGetClockInfo", 2) * 1e6,  # NVML_CLOCK_MEM
        "temperature": lambda: gpu.ask("DeviceGetTemperature", 0),  # NVML_TEMPERATURE_GPU
        "others": lambda: _others(gpu),
        **{f"{name}_violation": partial(_violation, gpu, policy) for name, policy in _POLICIES.items()},
    }
    for name, question in questions.items():
        try:
            found[name] = question()
        except nvml.AbsentError as absent:
            found.setdefault("unreported", {})[name] = str(absent)
    return found


def _reasons(gpu: nvml.Gpu) -> list[str]:
    try:
        bits = gpu.ask("DeviceGetCurrentClocksEventReasons")
    except nvml.AbsentError:  # a driver or library from before the change of name
        bits = gpu.ask("DeviceGetCurrentClocksThrottleReasons")
    return [name for bit, name in _REASONS.items() if bits & bit]


def _others(gpu: nvml.Gpu) -> int:
    """Other processes that compute on the GPU. In a container their ids may be those of another name space: then one
    of them is this process, if it has something there."""
    pids = [process.pid for process in gpu.ask("DeviceGetComputeRunningProcesses")]
    return max(0, len(pids) - (os.getpid() in pids or _computes()))


def _computes() -> bool:
    """Whether this process has memory on the GPU, and so is among those that compute there."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.memory_reserved() > 0


def _violation(gpu: nvml.Gpu, policy: int) -> float:
    return gpu.ask("DeviceGetViolationStatus", policy).violationTime * 1e-9  # ns


# ----------------------------------------------------------------------------------------------------- between


def between(before: Look, after: Look) -> dict[str, Any]:
    """What happened between two looks, as JSON: shares of the cores' time, both values of what is no counter.

    Counters of the CPU advance in steps of 10 ms, so a share of a short time is coarse; never below 0.
    """
    seconds = after.at - before.at
    core_seconds = seconds * after.cores
    seen: dict[str, Any] = {"seconds": round(seconds, 3), "cores": after.cores}
    if core_seconds > 0:
        others = (after.busy - before.busy) - (after.own - before.own)
        seen["foreign_cpu"] = round(max(0.0, others / core_seconds), 6)
        if before.stolen is not None and after.stolen is not None:
            seen["steal"] = round(max(0.0, (after.stolen - before.stolen) / core_seconds), 4)
    for name in ("load", "clock"):
        pair = [getattr(before, name), getattr(after, name)]
        if None not in pair:
            seen[name] = pair
    if before.throttles is not None and after.throttles is not None:
        seen["throttle_events"] = after.throttles - before.throttles
    if after.gpu:
        seen["gpu"] = _gpu_between(before.gpu, after.gpu, seconds)
    return seen


def _gpu_between(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    seen = {key: after[key] for key in ("absent", "unreported") if key in after}
    for name in ("clock", "memory_clock", "temperature"):
        if name in before and name in after:
            seen[name] = [before[name], after[name]]
    if "reasons" in before and "reasons" in after:
        seen["reasons"] = sorted({*before["reasons"], *after["reasons"]})
    if "others" in before and "others" in after:
        seen["others"] = max(before["others"], after["others"])
    for name in (f"{policy}_violation" for policy in _POLICIES):
        if name in before and name in after and seconds > 0:
            seen[name] = round((after[name] - before[name]) / seconds, 4)
    return seen


def marks(seen: Mapping[str, Any]) -> list[str]:
    """``contended`` and ``throttled``, as far as what was seen earns them."""
    return [name for name, reasons in (("contended", _contended(seen)), ("throttled", _throttled(seen))) if reasons]


def reasons(seen: Mapping[str, Any]) -> list[str]:
    """Why ``marks`` gives what it gives, in words."""
    return _contended(seen) + _throttled(seen)


def foreign_bar(cores: int) -> float:
    """The share of so many cores' time from which what other processes use is contention."""
    return min(FOREIGN_CPU, FOREIGN_CORES / max(1, cores))


def _contended(seen: Mapping[str, Any]) -> list[str]:
    found = []
    cores = seen.get("cores", 1)
    if (others := seen.get("foreign_cpu", 0.0)) >= foreign_bar(cores):
        found.append(f"other processes used {others:.1%} of the time of {cores} core{'s' * (cores != 1)}")
    if (steal := seen.get("steal", 0.0)) >= STEAL:
        found.append(f"the hypervisor kept {steal:.1%} of the cores' time back")
    if others_on_gpu := seen.get("gpu", {}).get("others", 0):
        found.append(f"{others_on_gpu} more processes were on the GPU")
    return found


def _throttled(seen: Mapping[str, Any]) -> list[str]:
    found = []
    if events := seen.get("throttle_events", 0):
        found.append(f"the CPU was slowed for heat {events} times")
    if (pair := seen.get("clock")) and pair[1] < (1 - CLOCK_FALL) * pair[0]:
        found.append(f"the CPU's clock fell from {pair[0] / 1e9:.2f} to {pair[1] / 1e9:.2f} GHz")
    gpu = seen.get("gpu", {})
    counted = {name: gpu[name] for name in (f"{policy}_violation" for policy in _POLICIES) if name in gpu}
    found += [
        f"the GPU was held back for {name.removesuffix('_violation')} during {share:.0%} of the time"
        for name, share in counted.items()
        if share >= VIOLATED
    ]
    if not counted and (held := sorted(_HELD_BACK & set(gpu.get("reasons", ())))):
        found.append(f"the GPU was held back: {', '.join(held)}")
    return found
