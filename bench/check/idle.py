"""Is anything else running? What other processes and guests take of this machine at rest and in the check."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..machine import watch
from ..stats import Interval, mean_interval
from .judge import Finding

SLICES, SECONDS = 10, 0.2  # the counters advance in steps of 10 ms

Seen = Mapping[str, Any]  # what bench.machine.watch says of a time


def look_on(
    device: str, slices: int = SLICES, seconds: float = SECONDS, sleep: Callable[[float], None] = time.sleep
) -> list[Seen]:
    """What happened to the machine at rest: in each of so many slices of time, and last in all of it."""
    looks = [watch.look(device)]
    for _ in range(slices):
        sleep(seconds)
        looks.append(watch.look(device))
    pairs = [*itertools.pairwise(looks), (looks[0], looks[-1])]
    return [watch.between(before, after) for before, after in pairs]


def findings(seen: Sequence[Seen]) -> list[Finding]:
    """Whether the machine at rest is idle enough to be measured on, by the bars that mark a record of a sweep."""
    *slices, whole = seen
    load = f"load average {whole['load'][-1]:.2f}" if "load" in whole else ""
    return _findings(slices, whole, "", load)


def findings_of_timing(seen: Sequence[Seen]) -> list[Finding]:
    """Whether it was while processes timed, one after the other; nothing where none of them could tell."""
    told = [one for one in seen if "foreign_cpu" in one]
    return _findings(told, told[-1], " while pairs were timed", "") if told else []


def _findings(slices: Sequence[Seen], whole: Seen, when: str, load: str) -> list[Finding]:
    others = Finding(
        name=f"other processes{when}: share of the cores' time",
        unit="share",
        figure=_mean(slices, "foreign_cpu"),
        bar=watch.foreign_bar(whole.get("cores", 1)),
        remark=load,
        remedy="stop what else runs, or use a machine of its own",
    )
    if "steal" not in whole:
        return [others]
    host = Finding(
        name=f"the hypervisor{when}: share of the cores' time kept back",
        unit="share",
        figure=_mean(slices, "steal"),
        bar=watch.STEAL,
        remedy="other guests share this virtual machine's host: take a dedicated one, or another hour",
    )
    return [others, host]


def notes(seen: Sequence[Seen]) -> list[str]:
    """What else would mark a record: heat, power, other processes on the GPU."""
    known = {"foreign_cpu", "steal"}
    return watch.reasons({name: value for name, value in seen[-1].items() if name not in known})


def notes_of_timing(seen: Sequence[Seen]) -> list[str]:
    """Which of the processes a sweep would have marked, and why."""
    return [
        f"process {number}: {'; '.join(why)}" for number, one in enumerate(seen, 1) if (why := watch.reasons(one))
    ]


def _mean(slices: Sequence[Seen], name: str) -> Interval:
    """Over slices; a share is not below 0, nor is the end of its interval."""
    found = mean_interval([seen.get(name, math.nan) for seen in slices])
    return Interval(found.value, max(0.0, found.lo), found.hi)
