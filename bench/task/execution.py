"""How a module is run: as it is or compiled, and in which precision. Knows the factors of a case, and no metric."""

from __future__ import annotations

import contextlib
import inspect
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import nn

from ..plan.case import Case

_AMP = {"amp_bf16": torch.bfloat16, "amp_fp16": torch.float16}

# what a precision rounds the operands of products to; tf32 keeps as many bits of a number as float16
_ROUNDED_TO = {"amp_bf16": "bfloat16", "amp_fp16": "float16", "tf32": "float16"}


class CannotCompileError(RuntimeError):
    """torch.compile does not work on this machine."""


def rounded_to(case: Case) -> str:
    """The dtype by whose tolerance a case's answer is judged."""
    return _ROUNDED_TO.get(case.precision, case.dtype)


def set_tf32(allowed: bool) -> None:
    """Whether float32 products may be rounded to TF32, in the whole process: no silent TF32 in a float32 row."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def runner(case: Case, module: nn.Module, device: str) -> Callable[..., Any]:
    """The forward pass of ``module`` as the case's compile and precision ask; backward follows what forward did."""
    run: Callable[..., Any] = module if case.compile == "none" else _compiled(module, case.compile)
    if case.precision not in _AMP:
        return run
    dtype = _AMP[case.precision]

    def autocast(*inputs: torch.Tensor) -> Any:
        with torch.autocast(device, dtype):
            return run(*inputs)

    return autocast


def _compiled(module: nn.Module, mode: str) -> Callable[..., Any]:
    """One graph for the shapes at hand.

    Variants of a layer share their code. Without isolation they would share one list of graphs, searched in order,
    and its limit; with dynamic shapes the second width would be compiled for any width.
    """
    isolated = {"isolate_recompiles": True} if "isolate_recompiles" in _COMPILE_OPTIONS else {}
    compiled = torch.compile(module, fullgraph=True, dynamic=False, mode=mode, **isolated)  # type: ignore[call-overload]
    run: Callable[..., Any] = compiled
    return run


_COMPILE_OPTIONS = inspect.signature(torch.compile).parameters


def compile_time(call: Callable[[], Any], device: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the first call of a compiled case: none of its kernels are in a cache, the compiler is loaded.

    Raises CannotCompileError where torch.compile does not work, and what it raises for a module that it cannot take:
    see ``refusal``.
    """
    _load_compiler(device)
    with cold_cache():
        begun = clock()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return clock() - begun


def refusal(error: Exception) -> str | None:
    """Why there is nothing compiled to measure, in a line, if that is what ``error`` says."""
    if isinstance(error, CannotCompileError):
        return str(error)
    dynamo = sys.modules.get("torch._dynamo.exc")  # where it is not loaded nothing was compiled
    if dynamo is None or not isinstance(error, dynamo.Unsupported):
        return None
    return f"torch.compile cannot take it as one graph: {str(error).strip().splitlines()[0]}"


@cache
def _load_compiler(device: str) -> None:
    """Import inductor and use it once, so that the first case does not pay for what all share."""
    try:
        with cold_cache():
            torch.compile(torch.sin)(torch.zeros(64, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise CannotCompileError(f"torch.compile does not work on this machine: {reason}") from error


@contextlib.contextmanager
def cold_cache() -> Iterator[None]:
    """Inductor with an empty cache folder of its own, removed at the end."""
    from torch._inductor.utils import fresh_cache

    # in a folder of ours: after an error inductor would leave its own behind
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder, fresh_cache(dir=folder):
        yield


def same_draws() -> contextlib.AbstractContextManager[None]:
    """Compiled dropout draws from torch's own generator: its masks are then those of the module as it is."""
    from torch._inductor import config

    patched: contextlib.AbstractContextManager[None] = config.patch(fallback_random=True)
    return patched
