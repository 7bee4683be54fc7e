"""The environment: what hardware and software a number belongs to. No torch is imported for it.

``env_id`` hashes identity alone (device, cores, versions), never host names, clocks or measurements: two equal
machines share it, and a machine keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from ..errors import UsageError
from ..plan.case import digest

_PACKAGES = ("torch", "torchvision", "numpy", "fvcore")
_ROOT = Path(__file__).resolve().parents[2]

# the sources that a worker measures with; what only plans, stores or shows cannot change a measured number, and what
# a case is or how long it is timed is in the ids of cases and tasks
_MEASURING = (
    "bench/task/worker.py", "bench/task/timing.py", "bench/task/static.py", "bench/task/answer.py",
    "bench/task/failure.py", "bench/task/forker.py", "bench/task/subject.py", "bench/task/execution.py",
    "bench/machine/devices.py", "bench/machine/caches.py", "bench/machine/watch.py", "bench/machine/nvml.py",
    "bench/measure/", "phnn/",
)  # fmt: skip
_TRAINING = ("bench/study/",)  # a training's besides


@cache
def identity(device: str) -> dict[str, Any]:
    """What identifies this machine as a place to measure on ``device`` (``cpu`` or ``cuda``)."""
    found: dict[str, Any] = {
        "device": device,
        "cpu_model": _cpu_model(),
        "cores": _usable_cores(),
        "logical_cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    if device == "cuda":
        found |= _cuda_identity()
    return found


def env_id(device: str) -> str:
    """A readable name with the hash of ``identity``: device-model-cores-torch-hash."""
    found = identity(device)
    model = found["gpu_model"] if device == "cuda" else f"{found['cpu_model']} {found['cores']}c"
    torch_version = (found["packages"]["torch"] or "none").split("+")[0]
    slug = re.sub(r"[^a-z0-9.]+", "-", f"{device} {model} torch{torch_version}".lower()).strip("-")
    return f"{slug}-{digest(found)[:8]}"


def _usable_cores() -> int:
    """Physical cores, or as many of them as this process may use (affinity, container quota)."""
    counts = [psutil.cpu_count(logical=False) or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no quota in it ("max")
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        counts.append(max(1, int(quota) // int(period)))
    return min(counts)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _cuda_identity() -> dict[str, Any]:
    """GPU model, count and driver as the driver's own tool reports them."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        raise UsageError(
            "no CUDA device: this sweep needs an NVIDIA GPU with its driver (nvidia-smi lists none). "
            "On this machine run the CPU sweep: make bench"
        ) from None
    gpus = [line.split(", ") for line in answer.strip().splitlines() if line.count(", ") == 2]
    if not gpus:
        raise UsageError("no CUDA device: nvidia-smi lists none. On this machine run the CPU sweep: make bench")
    name, driver, memory = gpus[0]
    return {"gpu_model": name, "gpus": len(gpus), "driver": driver, "gpu_memory_mib": memory}


@cache
def code_rev(plugins: tuple[str, ...] = (), training: bool = False) -> str:
    """Hash of the source that measures: all of phnn, what a worker is made of, and the studies for a ``training``.

    It follows the files, committed or not: an edited layer is measured again, an edited figure is not. plugins: the
    top modules of other packages whose layers or models take part.
    """
    own = _MEASURING + (_TRAINING if training else ())
    hasher = hashlib.sha256()
    for root, package in ((_ROOT, "bench"), (_ROOT, "phnn"), *map(_sources, plugins)):
        for path in sorted((root / package).rglob("*.py") if (root / package).is_dir() else [root / package]):
            name = path.relative_to(root).as_posix()
            if root != _ROOT or name.startswith(own):
                hasher.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()[:12]


def _sources(module: str) -> tuple[Path, str]:
    """The folder that holds a top module, and the name of its package or file in it; nothing is imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UsageError(f"the sources of plug-in {module!r} are not to be found: reinstall its package")
    file = Path(spec.origin)
    found = file.parent if spec.submodule_search_locations else file
    return found.parent, found.name


def check_device(device: str) -> None:
    """Make sure that torch can use ``device``, before a run starts; a UsageError says what lacks."""
    if device != "cuda":
        return
    identity(device)
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"no CUDA device: the driver lists {identity(device)['gpu_model']}, but torch {torch.__version__} cannot "
            "use it: install a CUDA build of torch that this driver supports"
        )


def commit() -> str | None:
    """The commit of the checkout that runs, ``+`` if files differ from it; None outside a checkout."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def describe(device: str) -> dict[str, Any]:
    """Everything that is written beside a run's results."""
    return {
        "env_id": env_id(device),
        "identity": identity(device),
        "code_rev": code_rev(),
        "commit": commit(),
        "executable": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "described": datetime.now(UTC).isoformat(timespec="seconds"),
    }
