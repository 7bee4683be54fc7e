"""A static task: what of one case no clock tells, counts, memory and the error of its answer."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from ..measure import counts, largest_batch, memory
from ..plan.case import Case
from . import crumb
from .answer import check_against_float64
from .failure import guarded, step
from .protocol import Request, Result
from .subject import build, slim_details


def measured(request: Request) -> list[Result]:
    """What was asked of the request's one case."""
    (case,) = request.case_list()
    return [guarded(case, lambda: _static_case(case, request))]


def _static_case(case: Case, request: Request) -> Result:
    """Each metric by itself: one that fails costs no other, and no time but that of an answer left unchecked."""
    controlled, wanted = request.controlled_by(case), set(request.metrics)
    result = Result(case_id=case.id, details={"threads": torch.get_num_threads()})
    if "rss_bytes" in wanted:  # before torch is first called: the process for it is forked from this one
        crumb.drop(case.id, "memory")
        step(result, {"rss_bytes"}, functools.partial(_rss, result, case, request.device, controlled))
    if "peak_bytes" in wanted:  # first, so that nothing measured before it is live or cached
        crumb.drop(case.id, "memory")
        make = functools.partial(build, case, request.device, controlled)

        def peak() -> None:
            result.values["peak_bytes"] = memory.peak_bytes(make, request.device)

        step(result, {"peak_bytes"}, peak)
    crumb.drop(case.id, "build")
    if case.control != "none":
        result.details |= slim_details(case, controlled)
    # what is counted is what the module says; a compiled call would hide it from the counters
    subject = build(replace(case, compile="none"), request.device, controlled)
    crumb.drop(case.id, "count")
    for metrics, measure in counts.MEASURES:
        if asked := metrics & wanted:
            step(result, asked, functools.partial(measure, result, subject, asked))
    if "numeric_error" in wanted:
        crumb.drop(case.id, "numerics")
        if case.compile != "none":
            subject = build(case, request.device, controlled)
        step(result, {"numeric_error"}, functools.partial(check_against_float64, result, subject))
    result.path_built = subject.path_built
    if subject.plans:
        result.details["plans"] = subject.plans
    if "largest_batch" in wanted:
        del subject  # the device's memory is for what is tried
        crumb.drop(case.id, "memory")
        step(result, {"largest_batch"}, functools.partial(_largest_batch, result, case, request.device, controlled))
    return result


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
