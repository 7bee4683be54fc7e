"""One task in one fresh process: ``python -m bench.task.worker REPLY`` reads a request from standard input.

A case that raises costs that case alone: its result says what went wrong, the others are measured.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path

import torch

from phnn import plugins

from ..plan.case import Case
from . import crumb, execution, static, timing
from .failure import guarded, raised
from .parent import follow_parent
from .protocol import NO_SPACE, Reply, Request, Result
from .subject import slim_details


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
    measure = {"timing": timing.measured, "static": static.measured, "training": _training}[request.kind]
    try:
        return Reply(results=measure(request))
    except Exception as error:
        if not crumb.case_id():
            raise
        return Reply(results=[raised(crumb.case_id(), error)])  # the others are measured by another process


def _training(request: Request) -> list[Result]:
    (case,) = request.case_list()
    return [guarded(case, lambda: _training_case(case, request))]


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
        details={**found.details, **slim_details(case, controlled)},
    )


if __name__ == "__main__":
    request_line = sys.stdin.readline()
    threading.Thread(target=follow_parent, daemon=True).start()
    code = main(request_line, Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the reply is written, and taking apart an interpreter that has loaded torch takes a while
