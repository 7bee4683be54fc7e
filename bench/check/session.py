"""The order of things: processes one after the other, a load beside some of them, findings at the end.

Everything that touches the machine is handed in, so that a test can be the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from phnn.timing import Clock

from ..stats import Interval
from . import idle, judge
from .judge import Comparison, Finding
from .messages import Answer, Kernel, Order, Pair, Timed
from .plan import BASE, Plan, Questions, questions

Launch = Callable[[Order], Answer]
FEWER = (3, 5)  # processes of a quick sweep, and of one by default


class CheckFailedError(Exception):
    """The check cannot be finished on this machine: the text says why."""


@dataclass(frozen=True)
class Machine:
    """What the check does to a machine.

    launch: has a fresh process answer an order; load: keeps another core busy while its block lasts; look_on: what
    happens to the machine at rest; cores: that may be used.
    """

    device: str
    cores: int
    launch: Launch
    load: Callable[[], AbstractContextManager[object]]
    look_on: Callable[[], Sequence[idle.Seen]]
    clock: Clock = time.perf_counter


@dataclass(frozen=True)
class Report:
    """sections: title → findings; resolution: the smallest slowdown that is told apart, all comparisons together;
    by_duration: the same for callables of a decade of seconds; by_processes: the same in so many processes, of those
    that there were; notes: what was not done, and why."""

    plan: Plan
    device: str
    threads: int
    seconds: float
    sections: dict[str, list[Finding]]
    resolution: Interval
    by_duration: dict[str, Interval]
    by_processes: dict[int, Interval]
    idle: list[Comparison]
    loaded: list[Comparison]
    notes: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[Finding]:
        """What this machine, or this harness on it, does not do."""
        return [f for found in self.sections.values() for f in found if f.state == "missed"]

    @property
    def open(self) -> list[Finding]:
        """What took too few comparisons to be decided."""
        return [f for found in self.sections.values() for f in found if f.state == "can't tell"]


def run(plan: Plan, machine: Machine, threads: int, tell: Callable[[str], None]) -> Report:
    """Put all questions; ``tell`` is told what is being done."""
    start = machine.clock()
    tell("watching the machine at rest")
    seen = machine.look_on()
    sections, notes = {"The machine": idle.findings(seen)}, idle.notes(seen)
    sections["The clock"] = judge.clock_findings(judge.clock_readings(machine.clock), plan.protocol.min_block)

    asked = questions(plan, kernels(plan, machine, threads, tell))
    without, answers = comparisons(asked.idle, plan, machine, threads, plan.limit, tell, asked.peers)
    seen = [answer.watch for answer in answers]
    sections["The machine"] += idle.findings_of_timing(seen)
    notes += [*idle.notes_of_timing(seen), *_left_out(len(without), len(asked.idle), "")]
    same, more = ([c for c in without if (c.pair.truth == 1) == wanted] for wanted in (True, False))
    if not same or not more:
        raise CheckFailedError(
            f"only {len(without)} of {len(asked.idle)} pairs were timed in {plan.limit} s: the machine is too slow "
            "or too busy for this check; try it without --quick"
        )
    sections["A/A, the same twice"] = judge.same(same)
    sections["A/B, 5 % more work"] = judge.more(more)
    sections["Other timers"] = [
        judge.agreement(timer, [answer.peers[timer] for answer in answers]) for timer in answers[0].peers
    ]
    notes += [f"{timer} was not asked: {reason}" for timer, reason in answers[0].absent.items()]
    under: list[Comparison] = []
    if machine.cores < 2:
        notes.append("not tried under a load: there is no other core")
    else:
        under = under_load(asked, plan, machine, threads, tell)
        notes += _left_out(len(under), len(asked.loaded), " under the load")
        sections["A load on another core"] = judge.loaded(under)
    return Report(
        plan=plan,
        device=machine.device,
        threads=threads,
        seconds=machine.clock() - start,
        sections=sections,
        resolution=judge.resolution(without),
        by_duration=_by_duration(without),
        by_processes=_by_processes(without, plan.protocol.processes),
        idle=without,
        loaded=under,
        notes=notes,
    )


def kernels(plan: Plan, machine: Machine, threads: int, tell: Callable[[str], None]) -> list[Kernel]:
    """The kernels that take the plan's durations on this machine, found once: every process gets the same."""
    tell("finding kernels of the wanted durations")
    wanted = [seconds / BASE for seconds in plan.durations()]
    return machine.launch(_order(plan, machine, threads, 0, durations=wanted)).kernels


def comparisons(
    pairs: Sequence[Pair],
    plan: Plan,
    machine: Machine,
    threads: int,
    limit: float | None,
    tell: Callable[[str], None],
    peers: Sequence[Kernel] = (),
) -> tuple[list[Comparison], list[Answer]]:
    """Each pair timed in every one of the plan's fresh processes.

    The first of them times what ``limit`` allows; the others the same pairs.
    """
    answers: list[Answer] = []
    timed: list[list[Timed]] = []
    for repetition in range(plan.protocol.processes):
        tell(f"process {repetition + 1} of {plan.protocol.processes}: {len(pairs)} pairs")
        cut = limit if repetition == 0 else None
        order = _order(plan, machine, threads, repetition, pairs=list(pairs), limit=cut, peers=list(peers))
        answers.append(machine.launch(order))
        pairs = pairs[: len(answers[-1].pairs)]
        timed.append(answers[-1].pairs)
    return judge.compared(pairs, timed), answers


def under_load(
    asked: Questions, plan: Plan, machine: Machine, threads: int, tell: Callable[[str], None]
) -> list[Comparison]:
    """The loaded pairs, on all cores but the one that the load has."""
    left = max(1, min(threads, machine.cores - 1))
    with machine.load():
        found, _ = comparisons(
            asked.loaded, plan, machine, left, plan.loaded_limit, lambda line: tell(f"under a load, {line}")
        )
    return found


def _order(plan: Plan, machine: Machine, threads: int, repetition: int, **what: object) -> Order:
    return Order.model_validate(
        {
            "device": machine.device,
            "threads": threads,
            "repetition": repetition,
            "protocol": plan.protocol,
            **what,
        }
    )


def _left_out(done: int, asked: int, where: str) -> list[str]:
    if done == asked:
        return []
    return [f"{asked - done} of {asked} pairs{where} were left out: the time for them was over"]


def _by_duration(found: Sequence[Comparison]) -> dict[str, Interval]:
    decades = {"below 1 ms": (0.0, 1e-3), "1 to 10 ms": (1e-3, 1e-2), "10 ms and more": (1e-2, float("inf"))}
    kinds = {name: [c for c in found if low <= c.timed[0].seconds < high] for name, (low, high) in decades.items()}
    return {name: judge.resolution(members) for name, members in kinds.items() if members}


def _by_processes(found: Sequence[Comparison], processes: int) -> dict[int, Interval]:
    """For sweeps that repeat in fewer processes than the check does."""
    fewer = [count for count in FEWER if count < processes]
    return {count: judge.resolution([c.in_processes(count) for c in found]) for count in [*fewer, processes]}
