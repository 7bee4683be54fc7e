"""One task in one fresh process: ``python -m bench.task.worker REPLY`` reads a request from standard input.

A case that raises costs that case alone: its result says what went wrong, the others are measured.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from phnn import plugins
from phnn.timing import Call
from phnn.tolerances import tolerance

from ..machine import devices, watch
from ..machine.nvml import AbsentError
from ..measure import counts, energy, largest_batch, latency, memory, numerics
from ..plan.case import Case
from . import crumb, execution
from .parent import follow_parent
from .protocol import NO_SPACE, Failure, Reply, Request, Result, wants_memory
from .subject import Subject, build, slim_scale


def main(request_text: str, reply_path: Path) -> int:
    """Measure what the request asks for and write the reply whole; crumbs beside it say how far it is.

    Gives the exit code: 0, or NO_SPACE where there is no room to write.
    """
    request = Request.model_validate_json(request_text)
    try:
        crumb.start(crumb.beside(reply_path))
        reply = _measured(request)
        temporary = reply_path.with_suffix(".tmp")
        temporary.write_text(reply.model_dump_json(), encoding="utf-8")
        temporary.replace(reply_path)
    except OSError as error:  # of our own files: what a case raises is its result
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return NO_SPACE
    return 0


def _measured(request: Request) -> Reply:
    for name in request.plugins:
        plugins.load_named(name)
    torch.set_num_threads(request.threads)
    execution.set_tf32(any(case.precision == "tf32" for case in request.case_list()))  # cases of a task share it
    measure = {"timing": _timing, "static": _static, "training": _training}[request.kind]
    try:
        return Reply(results=measure(request))
    except Exception as error:
        if not crumb.case_id():
            raise
        return Reply(results=[_raised(crumb.case_id(), error)])  # the others are measured by another process


def _guarded(case: Case, measure: Callable[[], Result]) -> Result:
    """The result of ``measure``, or what kept it from one."""
    try:
        return measure()
    except Exception as error:
        if _is_lasting(error):
            raise
        return _raised(case.id, error)


def _raised(case_id: str, error: Exception) -> Result:
    """The result of a case that raised."""
    failure = _failure(error)
    return Result(case_id=case_id, status=failure.status, reason=failure.reason)


def _is_lasting(error: Exception) -> bool:
    """Whether every later call of this process would report it again."""
    return "CUDA error" in str(error) and not isinstance(error, torch.OutOfMemoryError)


def _failure(error: Exception) -> Failure:
    """What an exception says of a case, in a status and a line; the traceback goes to the log."""
    traceback.print_exception(error)
    if isinstance(error, torch.OutOfMemoryError) or wants_memory(str(error)):
        return Failure(status="oom", reason=_line(error))
    if refusal := execution.refusal(error):
        return Failure(status="unsupported", reason=refusal)
    return Failure(status="error", reason=f"{type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


# ---------------------------------------------------------------------------------------------------- timing


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

        ready.results[case.id] = _guarded(case, make)
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


def _timing(request: Request) -> list[Result]:
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
            "calls_per_block": samples.rounds[0].calls[case_id],
            **({"placements": samples.placements} if len(samples.placements) > 1 else {}),
            "threads": torch.get_num_threads(),
            "watch": seen,
            **({"plans": subject.plans} if subject.plans else {}),
        }
    walltime = latency.walltime(start, ready - start + placements.seconds, samples.spent, watch.age())
    for case_id in built:
        results[case_id].details["walltime"] = walltime
    _check_tuned(built, results)
    if request.repetition == 0:  # once is enough: the others time the same code, by as many threads
        _check_timed(built, calls, results)
    if "energy" in request.metrics:
        _energy(request, built, results)
    return [results[case.id] for case in cases]


def _check_tuned(built: Mapping[str, Subject], results: Mapping[str, Result]) -> None:
    """Whether the plans that tuning chose in this process compute what they should: another's may differ."""
    for case_id, subject in built.items():
        if subject.case.path == "tuned":
            result = results[case_id]
            _step(result, {"numeric_error"}, functools.partial(_numerics, result, subject))


def _check_timed(built: Mapping[str, Subject], calls: Mapping[str, Call], results: Mapping[str, Result]) -> None:
    """Whether what was timed computes what was checked: static tasks run on one thread, and replay no graph.

    Both may be off by the tolerance. What keeps one from being compared withholds no time: a static task checks it.
    """
    for case_id, subject in built.items():
        crumb.drop(case_id, "check")
        result, case = results[case_id], subject.case
        try:
            found = numerics.departure(subject, calls[case_id])
        except Exception as error:
            if _is_lasting(error):
                raise
            result.details["departure"] = {"unknown": _failure(error).reason}
            continue
        if found is None:
            continue
        allowed = 2 * tolerance(execution.rounded_to(case), case.kind, "output", _path_of(subject))
        result.details["departure"] = {"error": found, "tolerance": allowed}
        if not found <= allowed and result.status == "ok":
            result.status = "wrong"
            result.reason = (
                f"as it is timed, its output departs by {found:.2e} from that of the same module on one thread, "
                f"at most {allowed:.1e} is right"
            )


def _path_of(subject: Subject) -> str:
    """The path by whose tolerance a subject is judged."""
    return "bilinear" if "bilinear" in subject.path_built else "dense"


def _energy(request: Request, built: Mapping[str, Subject], results: Mapping[str, Result]) -> None:
    """Joules of a call of each subject, in an order drawn anew by each process; what fails costs no time measured."""
    order = random.Random(request.repetition).sample(list(built), len(built))
    for place, case_id in enumerate(order):
        crumb.drop(case_id, "energy")
        take = functools.partial(_energy_of, results[case_id], built[case_id], request.device)
        try:
            _step(results[case_id], {"energy"}, take)
        except Exception as error:  # noqa: BLE001 - lasting: of this process no more is to be had
            failure = _failure(error)
            for left in order[place:]:
                results[left].failed["energy"] = failure
            return


def _energy_of(result: Result, subject: Subject, device: str) -> None:
    try:
        found = energy.per_call(subject.call, energy.counter_of(device), sync=energy.sync_of(device))
    except AbsentError as absent:
        result.unsupported["energy"] = str(absent)
        return
    result.values["energy"] = found.joules
    result.details["energy_window"] = {"calls": found.calls, "seconds": found.seconds, "ticks": found.ticks}


# ---------------------------------------------------------------------------------------------------- static


def _static(request: Request) -> list[Result]:
    (case,) = request.case_list()
    return [_guarded(case, lambda: _static_case(case, request))]


def _static_case(case: Case, request: Request) -> Result:
    """Each metric by itself: one that fails costs no other, and no time but that of an answer left unchecked."""
    controlled, wanted = request.controlled_by(case), set(request.metrics)
    result = Result(case_id=case.id, details={"threads": torch.get_num_threads()})
    if "rss_bytes" in wanted:  # before torch is first called: the process for it is forked from this one
        crumb.drop(case.id, "memory")
        _step(result, {"rss_bytes"}, functools.partial(_rss, result, case, request.device, controlled))
    if "peak_bytes" in wanted:  # first, so that nothing measured before it is live or cached
        crumb.drop(case.id, "memory")
        make = functools.partial(build, case, request.device, controlled)

        def peak() -> None:
            result.values["peak_bytes"] = memory.peak_bytes(make, request.device)

        _step(result, {"peak_bytes"}, peak)
    crumb.drop(case.id, "build")
    if case.control != "none":
        result.details |= _slim_details(case, controlled)
    # what is counted is what the module says; a compiled call would hide it from the counters
    subject = build(replace(case, compile="none"), request.device, controlled)
    crumb.drop(case.id, "count")
    for metrics, measure in counts.MEASURES:
        if asked := metrics & wanted:
            _step(result, asked, functools.partial(measure, result, subject, asked))
    if "numeric_error" in wanted:
        crumb.drop(case.id, "numerics")
        if case.compile != "none":
            subject = build(case, request.device, controlled)
        _step(result, {"numeric_error"}, functools.partial(_numerics, result, subject))
    result.path_built = subject.path_built
    if subject.plans:
        result.details["plans"] = subject.plans
    if "largest_batch" in wanted:
        del subject  # the device's memory is for what is tried
        crumb.drop(case.id, "memory")
        _step(result, {"largest_batch"}, functools.partial(_largest_batch, result, case, request.device, controlled))
    return result


def _step(result: Result, metrics: set[str], measure: Callable[[], None]) -> None:
    """Measure some metrics of a case, or note what kept them from a value."""
    try:
        measure()
    except Exception as error:
        if _is_lasting(error):
            raise
        failure = _failure(error)
        if failure.status == "unsupported":  # nothing that another try could mend
            result.unsupported |= dict.fromkeys(metrics, failure.reason)
        else:
            result.failed |= dict.fromkeys(metrics, failure)


def _rss(result: Result, case: Case, device: str, controlled: Case | None) -> None:
    try:
        result.values["rss_bytes"] = memory.rss_bytes(functools.partial(build, case, device, controlled))
    except memory.UnreadableError as reason:
        result.unsupported["rss_bytes"] = str(reason)


def _largest_batch(result: Result, case: Case, device: str, controlled: Case | None) -> None:
    try:
        found = largest_batch.largest_batch(case, device, controlled)
    except largest_batch.UnaskedError as reason:
        result.unsupported["largest_batch"] = str(reason)
        return
    result.values["largest_batch"] = found.batch
    result.details["largest_batch"] = found.as_dict()


def _slim_details(case: Case, controlled: Case | None) -> dict[str, float]:
    """How far a slim control was narrowed: its factors hold the scale of what it controls."""
    return {"slim_width_scale": slim_scale(controlled)} if controlled else {}


def _numerics(result: Result, subject: Subject) -> None:
    case = subject.case
    # the masks of a dropout must be those of the reference; how fast they are drawn is not asked here
    with execution.same_draws() if case.compile != "none" else contextlib.nullcontext():
        errors = numerics.errors(subject)
    path = _path_of(subject)
    depth = numerics.depth(subject.module)
    allowed = {of: tolerance(execution.rounded_to(case), case.kind, of, path, depth) for of in errors}
    result.values["numeric_error"] = errors.get("gradient", errors["output"])
    result.details["errors"], result.details["tolerances"] = errors, allowed
    wrong = [of for of in errors if not errors[of] <= allowed[of]]
    if wrong:
        of = wrong[-1]
        result.status = "wrong"
        result.reason = f"{of}: relative error {errors[of]:.2e} against float64, at most {allowed[of]:.1e} is right"


# -------------------------------------------------------------------------------------------------- training


def _training(request: Request) -> list[Result]:
    (case,) = request.case_list()
    return [_guarded(case, lambda: _training_case(case, request))]


def _training_case(case: Case, request: Request) -> Result:
    from ..study.training import job  # Lightning and the metrics take seconds to load, and nothing else needs them

    controlled = request.controlled_by(case)
    asked = request.training
    crumb.drop(case.id, "train")
    found = job.run(
        job.Job(
            case,
            controlled,
            device=request.device,
            threads=request.threads,
            data_root=request.data_root,
            plugins=tuple(request.plugins),
            folder=asked.checkpoints,
            every=asked.every,
            track=asked.track,
            tracks=asked.tracks,
        )
    )
    return Result(
        case_id=case.id,
        path_built=found.path_built,
        values={name: value for name, value in found.values.items() if name in request.metrics},
        unsupported={name: f"{case.name} has none" for name in request.metrics if name not in found.values},
        details={**found.details, **_slim_details(case, controlled)},
    )


if __name__ == "__main__":
    request_line = sys.stdin.readline()
    threading.Thread(target=follow_parent, daemon=True).start()
    code = main(request_line, Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the reply is written, and taking apart an interpreter that has loaded torch takes a while
