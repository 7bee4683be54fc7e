"""One task in one fresh process: ``python -m bench.worker REPLY`` reads a request from standard input.

A case that raises costs that case alone: its result says what went wrong, the others are measured.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from phnn.tolerances import tolerance

from .case import Case
from .measure import flops, latency, memory, numerics, params
from .protocol import Reply, Request, Result
from .study import data, train
from .study.recipe import Recipe
from .subject import Subject, build


def main(request_text: str, reply_path: Path) -> None:
    """Measure what the request asks for and write the reply whole."""
    request = Request.model_validate_json(request_text)
    torch.set_num_threads(request.threads)
    measure = {"timing": _timing, "static": _static, "training": _training}[request.kind]
    reply = Reply(results=measure(request))
    temporary = reply_path.with_suffix(".tmp")
    temporary.write_text(reply.model_dump_json(), encoding="utf-8")
    temporary.replace(reply_path)


def _guarded(case: Case, measure: Callable[[], Result]) -> Result:
    """The result of ``measure``, or what kept it from one."""
    try:
        return measure()
    except torch.OutOfMemoryError as error:
        return Result(case_id=case.id, status="oom", reason=_line(error))
    except Exception as error:  # noqa: BLE001 - whatever a subject raises becomes a row, with its traceback in the log
        traceback.print_exc()
        return Result(case_id=case.id, status="error", reason=f"{type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


# ---------------------------------------------------------------------------------------------------- timing


def _timing(request: Request) -> list[Result]:
    built: dict[str, Subject] = {}
    results: dict[str, Result] = {}
    for case in request.case_list():

        def make(case: Case = case) -> Result:
            subject = build(case, request.device, request.controlled_by(case))
            subject.call()  # a case that cannot run is found before anything is timed
            built[case.id] = subject
            return Result(case_id=case.id)

        results[case.id] = _guarded(case, make)
    if built:
        protocol = request.protocol
        samples = latency.measure(
            {case_id: subject.call for case_id, subject in built.items()},
            precision=protocol.precision,
            budget=protocol.budget,
            min_block=protocol.min_block,
            seed=request.repetition,
            device=request.device,
        )
        for case_id, subject in built.items():
            calls = samples.rounds[0].calls[case_id]
            results[case_id] = Result(
                case_id=case_id,
                path_built=subject.path_built,
                seconds=samples.seconds(case_id),
                details={"stopped": samples.stopped, "calls_per_block": calls, "threads": torch.get_num_threads()},
            )
    return list(results.values())


# ---------------------------------------------------------------------------------------------------- static


def _static(request: Request) -> list[Result]:
    (case,) = request.case_list()
    return [_guarded(case, lambda: _static_case(case, request))]


def _static_case(case: Case, request: Request) -> Result:
    controlled, wanted = request.controlled_by(case), set(request.metrics)
    result = Result(case_id=case.id)
    subject = build(case, request.device, controlled)
    if wanted & {"params"}:
        result.values["params"] = params.params(subject.module)
    if wanted & {"weight_bytes"}:
        result.values["weight_bytes"] = params.weight_bytes(subject.module)
    _counts(result, case, wanted, controlled)
    if "macs_fvcore" in wanted:
        _fvcore(result, subject)
    if "numeric_error" in wanted:
        _numerics(result, subject)
    result.path_built = subject.path_built
    del subject
    if "peak_bytes" in wanted:
        result.values["peak_bytes"] = memory.peak_bytes(
            lambda: build(case, request.device, controlled), request.device
        )
    return result


def _counts(result: Result, case: Case, wanted: set[str], controlled: Case | None) -> None:
    if wanted & {"macs", "macs_dense", "macs_weight_build"}:
        cost = flops.costs(build(case, "meta", controlled))
        counted = {"macs": cost.macs, "macs_dense": cost.macs_dense, "macs_weight_build": cost.macs_weight_build}
        result.values |= {name: value for name, value in counted.items() if name in wanted}
    if "flops_torch" in wanted:
        value, uncounted = flops.flops_torch(build(case, "meta", controlled).call)
        result.values["flops_torch"] = value
        result.details["flops_torch_uncounted"] = uncounted


def _fvcore(result: Result, subject: Subject) -> None:
    try:
        value, uncounted = flops.macs_fvcore(subject.module, subject.inputs)
    except ImportError:
        result.unsupported["macs_fvcore"] = "fvcore is not installed: pip install fvcore"
        return
    result.values["macs_fvcore"] = value
    result.details["macs_fvcore_uncounted"] = uncounted


def _numerics(result: Result, subject: Subject) -> None:
    case = subject.case
    error = numerics.numeric_error(subject)
    allowed = tolerance(case.dtype, case.kind, "output" if case.phase == "infer" else "gradient")
    result.values["numeric_error"] = error
    if not error <= allowed:
        result.status = "wrong"
        result.reason = f"relative error {error:.2e} against float64, at most {allowed:.1e} is right"


# -------------------------------------------------------------------------------------------------- training


def _training(request: Request) -> list[Result]:
    (case,) = request.case_list()
    return [_guarded(case, lambda: _training_case(case, request))]


def _training_case(case: Case, request: Request) -> Result:
    subject = build(case, request.device, request.controlled_by(case))
    root = Path(request.data_root) if request.data_root else None
    outcome = train.train(
        subject.module, data.load(case.data, case.seed, root), Recipe(**dict(case.recipe)), case.seed
    )
    values: dict[str, float | int] = {
        "params": params.params(subject.module),
        "accuracy": outcome.accuracy,
        "train_loss": outcome.losses[-1],
        "train_time": outcome.seconds,
    }
    return Result(
        case_id=case.id,
        path_built=subject.path_built,
        values={name: value for name, value in values.items() if name in request.metrics},
        details={"losses": list(outcome.losses)},
    )


if __name__ == "__main__":
    main(sys.stdin.read(), Path(sys.argv[1]))
