"""The largest batch of a case whose call fits the device: what a smaller net buys in memory, in the user's own unit.

    try the case's batch, then twice it
    while all fits: try the batch at which the line through the two latest peaks reaches the device's memory
    once one does not fit: halve what lies between, until that is RESOLUTION of the batch that fits

A batch fits if two calls of the phase run (the second has the optimiser's state, too), each in memory that earlier
trials have left. On CUDA alone: a CPU's system swaps, or ends the process, long before a call is refused.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..plan.case import Case
from ..task.subject import Subject, build

RESOLUTION = 1 / 64  # of the batch that is found
LIMIT = 1 << 20  # examples: a call that takes so many is not short of memory
_JUMP = 16  # times the largest batch that fits: a line through two small batches says little of a far one

Trial = Callable[[int], int | None]  # batch → bytes taken at the peak, None if it does not fit


class UnaskedError(RuntimeError):
    """There is no such batch to ask for here."""


@dataclass(frozen=True)
class Found:
    """batch: the largest that fits, 0 for none; refused: the smallest that was tried in vain, None if none was.

    peaks: bytes by the batches that fit; capacity: bytes that the device had to give.
    """

    batch: int
    refused: int | None
    peaks: dict[int, int]
    capacity: int

    def as_dict(self) -> dict[str, Any]:
        """For the details of a record."""
        return asdict(self)


def search(trial: Trial, start: int, capacity: int) -> Found:
    """The largest batch that fits, to RESOLUTION; exact below 1 / RESOLUTION. start: the first that is tried."""
    peaks: dict[int, int] = {}
    fits, refused, batch = 0, None, start
    while True:
        peak = trial(batch)
        if peak is None:
            refused = batch
        else:
            fits, peaks[batch] = batch, peak
        if fits >= LIMIT or (refused is not None and refused - fits <= max(1, RESOLUTION * fits)):
            return Found(fits, refused, peaks, capacity)
        batch = _farther(peaks, capacity) if refused is None else (fits + refused) // 2


def _farther(peaks: dict[int, int], capacity: int) -> int:
    """A larger batch than all that fitted: where the line through the latest two peaks reaches the capacity."""
    *earlier, last = peaks
    if not earlier:
        return min(2 * last, LIMIT)
    slope = (peaks[last] - peaks[earlier[-1]]) / (last - earlier[-1])
    reach = last + (capacity - peaks[last]) / slope if slope > 0 else _JUMP * last
    # one step at least beyond what the result is known to: else the search would creep up on the capacity
    least = last + max(1, int(RESOLUTION * last))
    return min(max(int(reach), least), _JUMP * last, LIMIT)


def largest_batch(
    case: Case, device: str, controlled: Case | None = None, *, make: Any = build, cuda: Any = torch.cuda
) -> Found:
    """The largest batch of ``case``, whose own batch is the first that is tried; UnaskedError where there is none.

    make, cuda: ``subject.build`` and the interface of ``torch.cuda``. Raises torch's OutOfMemoryError if not
    even one example fits.
    """
    if device != "cuda":
        raise UnaskedError(
            "the largest batch is that of a CUDA device: a CPU's system swaps before a call is refused"
        )
    if "batch" not in dict(case.shape):
        raise UnaskedError(f"{case.subject} has no axis batch")

    def attempt(batch: int) -> int | None:
        shape = tuple(sorted({**dict(case.shape), "batch": batch}.items()))
        try:
            subject: Subject = make(replace(case, shape=shape), device, controlled)
            for _ in range(2):
                subject.call()
            cuda.synchronize()
        except RuntimeError as error:
            # libraries have allocations of their own (CUBLAS_STATUS_ALLOC_FAILED)
            if not (isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)):
                raise
            return None
        return int(cuda.max_memory_reserved())

    def trial(batch: int) -> int | None:
        peak = attempt(batch)
        # here, where neither the subject nor the error's traceback holds a tensor any more
        _forget(cuda)
        return peak

    _forget(cuda)
    free, _ = cuda.mem_get_info()
    found = search(trial, dict(case.shape)["batch"], free + cuda.memory_reserved())
    if not found.batch:
        raise torch.OutOfMemoryError(f"not even a batch of 1 fits into {found.capacity / 2**30:.1f} GiB")
    return found


def _forget(cuda: Any) -> None:
    """Give all memory back to the device, and count the peak anew."""
    gc.collect()
    cuda.synchronize()
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
