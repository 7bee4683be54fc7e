"""A worker that loads no torch: it sleeps, fails as ``phnn_faults`` says, and makes up values from the case's id.

It takes the orders and drops the crumbs of ``bench.task.worker``, so that a sweep of hundreds of processes takes seconds.
"""

import os
import sys
import threading
import time
import traceback
from pathlib import Path

from phnn_faults.faults import commit

from bench.task import crumb
from bench.task.parent import follow_parent
from bench.task.protocol import Reply, Request, Result


def main(request_text: str, reply_path: Path) -> int:
    request = Request.model_validate_json(request_text)
    crumb.start(crumb.beside(reply_path))
    results = [measured(request, case) for case in request.case_list()]
    temporary = reply_path.with_suffix(".tmp")
    temporary.write_text(Reply(results=results).model_dump_json(), encoding="utf-8")
    temporary.replace(reply_path)
    return 0


def measured(request: Request, case) -> Result:
    crumb.drop(case.id, "run")
    options = dict(case.options)
    time.sleep(options.get("seconds", 0.01))
    try:
        commit(options.get("fault", "none"))
    except ValueError as error:
        traceback.print_exc()
        return Result(case_id=case.id, status="error", reason=f"ValueError: {error}")
    number = int(case.id, 16) % 1000 + 1
    if request.kind == "timing":
        return Result(case_id=case.id, seconds=[number / 1e6 * (1 + i % 3) for i in range(8)])
    return Result(case_id=case.id, values={name: float(number) for name in request.metrics} | {"numeric_error": 0.0})


if __name__ == "__main__":
    line = sys.stdin.readline()
    threading.Thread(target=follow_parent, daemon=True).start()
    os._exit(main(line, Path(sys.argv[1])))
