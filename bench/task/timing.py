"""A timing task: a chunk of a group in one process, interleaved, and what its subjects draw of energy."""

from __future__ import annotations

import functools
import gc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from phnn.timing import Call

from ..machine import devices, watch
from ..machine.nvml import AbsentError
from ..measure import energy, latency
from ..plan.case import Case
from . import crumb, execution
from .answer import check_timed, check_tuned
from .failure import failure_of, guarded, step
from .protocol import Request, Result
from .subject import Subject, build


@dataclass
class _Ready:
    """What is built and can be called, and a result of every case that was tried."""

    built: dict[str, Subject] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)


def _make_ready(request: Request, cases: Sequence[Case], device: devices.Device) -> _Ready:
    """Build and call all ``cases``, in their order."""
    ready = _Ready()
    for case in cases:

        def make(case: Case = case) -> Result:
            crumb.drop(case.id, "build")
            subject = build(case, device.type, request.controlled_by(case))
            values = {}
            if case.compile != "none":
                crumb.drop(case.id, "compile")
                values["compile_time"] = execution.compile_time(subject.call, device.type)
            crumb.drop(case.id, "run")
            subject.call()  # a case that cannot run is found before anything is timed
            ready.calls[case.id] = latency.prepared(subject.call, case.timer, device)
            ready.built[case.id] = subject
            return Result(case_id=case.id, values=values)

        ready.results[case.id] = guarded(case, make)
    return ready


def _all_ready(request: Request, device: devices.Device) -> _Ready:
    """All cases, built in this process's own order.

    Where there is no memory for all, it is the last of the request that do without, never the baseline, its first.
    """
    cases = request.case_list()
    by_id = {case.id: case for case in cases}
    ready = _make_ready(request, _in_order(request, by_id, 0), device)
    if all(result.status != "oom" for result in ready.results.values()):
        return ready
    del ready
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return _make_ready(request, cases, device)


def _in_order(request: Request, by_id: Mapping[str, Case], placement: int) -> list[Case]:
    first = request.case_list()[0].id
    return [by_id[case_id] for case_id in latency.build_order(list(by_id), request.repetition, placement, first)]


class _Placements:
    """What is timed, built anew for each placement but the first; ``seconds`` of building go on beside the timing."""

    def __init__(self, request: Request, ready: _Ready, device: devices.Device) -> None:
        self.request, self.ready, self.device, self.seconds = request, ready, device, 0.0

    @property
    def wanted(self) -> int:
        """One, where building again would compile, tune or capture again: minutes, and another subject."""
        cases = [subject.case for subject in self.ready.built.values()]
        once = any(case.compile != "none" or case.path == "tuned" or case.timer == "graph" for case in cases)
        return 1 if once else self.request.protocol.placements

    def place(self, number: int) -> Mapping[str, Call]:
        """The calls of all that could be built at first."""
        if number == 0:
            return self.ready.calls
        begun = watch.age()
        by_id = {case.id: case for case in self.request.case_list() if case.id in self.ready.built}
        self.ready.built.clear()
        self.ready.calls.clear()
        gc.collect()
        again = _make_ready(self.request, _in_order(self.request, by_id, number), self.device)
        for case_id, result in again.results.items():
            if result.status != "ok":
                crumb.drop(case_id, "build")
                raise RuntimeError(f"it was built once, and not again: {result.reason}")
        self.ready.built |= again.built
        self.ready.calls |= again.calls
        gc.collect()  # what building left behind
        self.seconds += watch.age() - begun
        return self.ready.calls


def measured(request: Request) -> list[Result]:
    """The times of all cases of the request, or what kept one from a time, in the order of the request."""
    start = watch.age()
    cases, device = request.case_list(), devices.find(request.device)
    all_ready = _all_ready(request, device)
    built, calls, results = all_ready.built, all_ready.calls, all_ready.results
    if not built:
        return [results[case.id] for case in cases]
    gc.collect()  # what building left behind
    ready = watch.age()
    before = watch.look(device.type)
    protocol = request.protocol
    placements = _Placements(request, all_ready, device)
    samples = latency.measure(
        placements.place,
        placements=placements.wanted,
        precision=protocol.precision,
        budget=protocol.budget,
        min_block=protocol.min_block,
        seed=request.repetition,
        device=device,
        timer=cases[0].timer,  # cases of a task share it
        visit=lambda case_id: crumb.drop(case_id, "time"),
    )
    seen = watch.between(before, watch.look(device.type))
    for case_id, subject in built.items():
        result = results[case_id]
        result.path_built = subject.path_built
        result.seconds = samples.seconds(case_id)
        result.details = {
            "stopped": samples.stopped,
            "settled": samples.settled[case_id],
            "calls_per_block": max(taken.calls[case_id] for taken in samples.rounds),  # each placement has its own
            **({"placements": samples.placements} if len(samples.placements) > 1 else {}),
            "threads": torch.get_num_threads(),
            "watch": seen,
            **({"plans": subject.plans} if subject.plans else {}),
        }
    timed = watch.age()
    check_tuned(built, results)
    if request.repetition == 0:  # once is enough: the others time the same code, by as many threads
        check_timed(built, calls, results)
    checked = watch.age()
    if "energy" in request.metrics:
        _energy(request, calls, results)
    build = ready - start + placements.seconds
    walltime = latency.walltime(
        start, build, samples.spent, timed, checks=checked - timed, energy=watch.age() - checked
    )
    for case_id in built:
        results[case_id].details["walltime"] = walltime
    return [results[case.id] for case in cases]


def _energy(request: Request, calls: Mapping[str, Call], results: Mapping[str, Result]) -> None:
    """Joules of each call that was timed, in an order drawn anew by each process; what fails costs no time."""
    order = random.Random(request.repetition).sample(list(calls), len(calls))
    for place, case_id in enumerate(order):
        crumb.drop(case_id, "energy")
        take = functools.partial(_energy_of, results[case_id], calls[case_id], request.device)
        try:
            step(results[case_id], {"energy"}, take)
        except Exception as error:  # noqa: BLE001 - lasting: of this process no more is to be had
            failure = failure_of(error)
            for left in order[place:]:
                results[left].failed["energy"] = failure
            return


def _energy_of(result: Result, call: Call, device: str) -> None:
    before = watch.look(device)
    try:
        found = energy.per_call(call, energy.counter_of(device), sync=energy.sync_of(device))
    except AbsentError as absent:
        result.unsupported["energy"] = str(absent)
        return
    result.values["energy"] = found.joules
    result.details["watch_energy"] = watch.between(before, watch.look(device))
    result.details["energy_window"] = {"calls": found.calls, "seconds": found.seconds, "ticks": found.ticks}
