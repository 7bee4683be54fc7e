"""Run folders made by hand: whatever a sweep plans, with the times, values and failures that a test asks for."""

import json

from bench.schedule.run import plan_lines
from bench.store.folder import SCHEMA

ENV, CODE = "cpu-test", "c0de00000000"


def write_run(
    folder, planned, seconds=lambda case, process, turn: 1e-3, values=lambda case, metric: 100.0, processes=3, rounds=8,
    failed=lambda case, kind: None, env_id=ENV, code_rev=CODE, chunk="",
):  # fmt: skip
    """seconds(case, process, round), values(case, metric) and failed(case, kind) → (status, reason) or None."""

    def result(case, kind, **found):
        base = {"case_id": case.id, "status": "ok", "reason": "", "path_built": "dense", "values": {}, "unsupported": {},
                "seconds": [], "details": {}}  # fmt: skip
        if failure := failed(case, kind):
            return base | {"status": failure[0], "reason": failure[1]}
        return base | found

    def line(kind, name, repetition, siblings, results):
        return {"env_id": env_id, "code_rev": code_rev, "protocol_version": 2, "task_id": f"{name}{repetition}{code_rev}",
                "chunk_id": name + chunk, "kind": kind, "repetition": repetition, "siblings": siblings, "wall": 1.0,
                "started": "2026-01-01T00:00:00+00:00", "results": results}  # fmt: skip

    lines = []
    for p in planned:
        kind = "training" if p.case.data != "none" else "static"
        own = {metric: values(p.case, metric) for metric in p.metrics}
        lines.append(line(kind, kind + p.case.id, 0, 1, [result(p.case, kind, values=own)]))
    for group in dict.fromkeys(p.case.group_id for p in planned if p.case.data == "none"):
        cases = [p.case for p in planned if p.case.group_id == group and "latency" in p.metrics]
        for process in range(processes if cases else 0):
            results = [
                result(case, "timing", seconds=[seconds(case, process, turn) for turn in range(rounds)])
                for case in cases
            ]
            lines.append(line("timing", group, process, processes, results))
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in (("plan.jsonl", plan_lines(planned)), ("tasks.jsonl", lines)):
        with (folder / name).open("a", encoding="utf-8") as file:  # a store would wait for the disk after each line
            file.writelines(json.dumps({"schema": SCHEMA, **each}) + "\n" for each in own)
    return folder
