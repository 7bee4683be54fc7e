"""Memory: what torch allocates during one call, to the byte, and apart from it what the system sees of the process.

On CPU the profiler's allocation events are summed from before the module is built, so weights, gradients, optimiser
state and inputs are in the total; the peak is taken over one call after a warm-up call. What libraries allocate
behind torch's allocator (oneDNN scratch space) is not seen there. It is in the resident set, as are fragmentation and
the pages of code that run for the first time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ..task.subject import Subject

_MARK = "bench::measured_call"
_PIPE = 4096  # bytes that a pipe takes at once


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


def rss_bytes(make: Callable[[], Subject]) -> int:
    """How far the resident set of a process grows, at most, that builds a subject and calls it twice.

    The process is forked for it, so that nothing measured before has left it memory to use again, and nothing that it
    touches stays: nothing of torch may have been called before. In pages, and not to the byte the same again.
    Raises UnreadableError where the system tells no such size, and what the process said if it failed.
    """
    if "VmHWM" not in _status():
        raise UnreadableError("the resident set's peak is read from /proc/self/status, which Linux alone has")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(theirs, make)
    os.close(theirs)
    with open(ours, encoding="utf-8") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        return int(answer)
    raise RuntimeError(answer or f"the process whose resident set was to be measured ended with code {code}")


class UnreadableError(Exception):
    """This system does not tell what was asked."""


def _answer(pipe: int, make: Callable[[], Subject]) -> None:
    """What the forked process does: it writes a number, or why there is none, and ends."""
    code, answer = 1, ""
    try:
        before = _status()["VmRSS"]
        subject = make()
        subject.call()
        subject.call()
        code, answer = 0, str(_status()["VmHWM"] - before)
    except BaseException as error:  # noqa: BLE001 - this process ends here, whatever happened, and says why
        answer = f"{type(error).__name__}: {error}"
    finally:
        os.write(pipe, answer.encode()[:_PIPE])
        os._exit(code)


def _status(file: Path = Path("/proc/self/status")) -> dict[str, int]:
    """The sizes of this process in bytes, by the kernel's names; none where there is no such file."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) << 10 for name, size, _ in sizes}
