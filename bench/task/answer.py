"""Whether a subject's answer is right, and so whether its time is published."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping

from phnn.timing import Call
from phnn.tolerances import tolerance

from ..measure import numerics
from . import crumb, execution
from .failure import failure_of, is_lasting, step
from .protocol import Result
from .subject import Subject


def check_against_float64(result: Result, subject: Subject) -> None:
    """Keep the relative error of the output, and of the gradient where there is one; beyond tolerance it is wrong."""
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


def check_tuned(built: Mapping[str, Subject], results: Mapping[str, Result]) -> None:
    """Whether the plans that tuning chose in this process compute what they should: another's may differ."""
    for case_id, subject in built.items():
        if subject.case.path == "tuned":
            result = results[case_id]
            step(result, {"numeric_error"}, functools.partial(check_against_float64, result, subject))


def check_timed(built: Mapping[str, Subject], calls: Mapping[str, Call], results: Mapping[str, Result]) -> None:
    """Whether what was timed computes what was checked: static tasks run on one thread, and replay no graph.

    Both may be off by the tolerance. What keeps one from being compared withholds no time: a static task checks it.
    """
    for case_id, subject in built.items():
        crumb.drop(case_id, "check")
        result, case = results[case_id], subject.case
        try:
            found = numerics.departure(subject, calls[case_id])
        except Exception as error:
            if is_lasting(error):
                raise
            result.details["departure"] = {"unknown": failure_of(error).reason}
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
