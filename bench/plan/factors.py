"""The execution factors: how a case is run and timed, and which of their values cannot go together. No torch."""

from __future__ import annotations

from phnn.plan import PATHS
from phnn.tolerances import dtypes

from ..study.catalog import DATA
from .case import Case

# the execution factors and the values that this harness can measure
FACTOR_VALUES: dict[str, tuple[str, ...]] = {
    "phase": ("infer", "forward_backward", "train_step"),
    "timer": ("host_warm", "host_cold", "device_cold", "device_warm", "graph"),
    "compile": ("none", "default", "max-autotune"),
    "dtype": tuple(dtypes()),
    "precision": ("none", "amp_bf16", "amp_fp16", "tf32"),
    "path": ("auto", "tuned", *PATHS),
    "memory_format": ("contiguous", "channels_last"),
    "data": tuple(DATA),
}

_DEVICE_TIMERS = ("device_cold", "device_warm", "graph")


def unfit(case: Case, device: str) -> str | None:
    """Why this combination of factors cannot be run on ``device`` (``cpu`` or ``cuda``), or None."""
    return _timer_problem(case, device) or _compile_problem(case) or _precision_problem(case, device)


def _timer_problem(case: Case, device: str) -> str | None:
    if case.timer in _DEVICE_TIMERS and device != "cuda":
        return f"timer {case.timer} reads a CUDA device's events: on a CPU take host_warm or host_cold"
    if case.timer == "graph" and case.compile == "max-autotune":
        return "compile max-autotune replays CUDA graphs of its own: take timer device_warm, or compile default"
    return None


def _compile_problem(case: Case) -> str | None:
    if case.compile != "none" and case.path == "tuned":
        return "a tuned path is the fastest of uncompiled ones: name a path, or take auto, for what is compiled"
    return None


def _precision_problem(case: Case, device: str) -> str | None:
    if case.precision == "none":
        return None
    if case.dtype != "float32":
        return f"precision {case.precision} rounds the products of float32 parameters, these are {case.dtype}"
    if device == "cuda":
        return None
    if case.precision == "tf32":
        return "tf32 is a format of CUDA tensor cores"
    if case.precision == "amp_fp16" and case.phase != "infer":
        return "training in float16 takes a GPU: on a CPU take amp_bf16"
    return None
