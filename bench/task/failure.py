"""What keeps a case from a value: a status and a line of its own, while the others are measured."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import torch

from ..plan.case import Case
from . import execution
from .protocol import Failure, Result, wants_memory


def guarded(case: Case, measure: Callable[[], Result]) -> Result:
    """The result of ``measure``, or what kept it from one."""
    try:
        return measure()
    except Exception as error:
        if is_lasting(error):
            raise
        return raised(case.id, error)


def raised(case_id: str, error: Exception) -> Result:
    """The result of a case that raised."""
    failure = failure_of(error)
    return Result(case_id=case_id, status=failure.status, reason=failure.reason)


def is_lasting(error: Exception) -> bool:
    """Whether every later call of this process would report it again."""
    return "CUDA error" in str(error) and not isinstance(error, torch.OutOfMemoryError)


def failure_of(error: Exception) -> Failure:
    """What an exception says of a case, in a status and a line; the traceback goes to the log."""
    traceback.print_exception(error)
    if isinstance(error, torch.OutOfMemoryError) or wants_memory(str(error)):
        return Failure(status="oom", reason=_line(error))
    if refusal := execution.refusal(error):
        return Failure(status="unsupported", reason=refusal)
    return Failure(status="error", reason=f"{type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def step(result: Result, metrics: set[str], measure: Callable[[], None]) -> None:
    """Measure some metrics of a case, or note what kept them from a value."""
    try:
        measure()
    except Exception as error:
        if is_lasting(error):
            raise
        failure = failure_of(error)
        if failure.status == "unsupported":  # nothing that another try could mend
            result.unsupported |= dict.fromkeys(metrics, failure.reason)
        else:
            result.failed |= dict.fromkeys(metrics, failure)
