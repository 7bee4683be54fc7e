"""Peak memory of one call, to the byte: every allocation and release that torch reports, in order.

On CPU the profiler's allocation events are summed from before the module is built, so weights, gradients, optimiser
state and inputs are in the total; the peak is taken over one call after a warm-up call. What libraries allocate
behind torch's allocator (oneDNN scratch space) is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ..subject import Subject

_MARK = "bench::measured_call"


def peak_bytes(make: Callable[[], Subject], device: str) -> int:
    """The largest total of live bytes during one warm call of the subject that ``make`` builds."""
    return _peak_cuda(make) if device == "cuda" else _peak_cpu(make)


def _peak_cpu(make: Callable[[], Subject]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        subject = make()
        subject.call()
        with record_function(_MARK):
            subject.call()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = profiler.profiler.kineto_results.events()
    mark = next(event for event in events if event.name() == _MARK)
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    return largest_live(changes, mark.start_ns(), mark.end_ns())


def largest_live(changes: Iterable[tuple[int, int]], start: int, end: int) -> int:
    """The most bytes that are live at once from ``start`` to ``end``.

    changes: (when, bytes more or less), as recorded. Of changes at one moment the recorded order counts: a release
    that came after an allocation frees nothing for it.
    """
    live = peak = 0
    for when, change in sorted(changes, key=itemgetter(0)):
        if when > start:
            peak = max(peak, live)
        if when > end:
            break
        live += change
    return max(peak, live)


def _peak_cuda(make: Callable[[], Subject]) -> int:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    subject = make()
    subject.call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    subject.call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
