"""Finished tasks and plans made by hand: every kind of task and status, without measuring."""

from __future__ import annotations

import json

from bench.plan.case import Case, Planned, digest
from bench.schedule.run import plan_lines
from bench.store.lines import text_of

STARTED = "2026-01-01T00:00:{:02d}+00:00"


def case(n=1, channels=8, **factors):
    algebra = "real" if n == 1 else "ph"
    return Case(
        "linear", "layer", algebra, n, (("batch", 2), ("channels", channels), ("out_channels", None)), **factors
    )


def planned(*cases, metrics=("params", "latency", "latency_ratio", "numeric_error"), **fields):
    return [Planned(c, frozenset(metrics), **fields) for c in cases]


def result(of, status="ok", **fields):
    empty = {"reason": "", "path_built": "dense", "values": {}, "unsupported": {}, "seconds": [], "details": {}}
    return {"case_id": of.id, "status": status, **empty, **fields}


def task(kind, results, name="t", second=0, **fields):
    chunk = digest([kind, [r["case_id"] for r in results]])
    return {
        "task_id": f"{name}-{kind}-{chunk}", "chunk_id": chunk, "kind": kind, "repetition": 0, "siblings": 1,
        "started": STARTED.format(second), "wall": 1.5, "env_id": "cpu-x", "code_rev": "c1", "protocol_version": 1,
        "results": results, **fields,
    }  # fmt: skip


def static(of, params=7, **fields):
    return task(
        "static", [result(of, values={"params": params, "numeric_error": 1e-7}, details={"threads": 1})], **fields
    )


def timings(cases, processes=2, seconds=1.0, **fields):
    """A timing task for each process; case i takes (i + 1) times as long as the first."""
    details = {
        "threads": 2,
        "calls_per_block": 4,
        "stopped": "precision",
        "watch": {"foreign_cpu": 0.0, "clock": [2e9, 2e9]},
    }
    return [
        task(
            "timing",
            [result(c, seconds=[seconds * (i + 1)] * 3, details=details) for i, c in enumerate(cases)],
            f"t{repetition}",
            siblings=processes,
            repetition=repetition,
            **fields,
        )
        for repetition in range(processes)
    ]


def write(folder, plan, lines, env_id=None):
    """A run folder as a run leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.jsonl").write_bytes(b"".join(text_of({"schema": 1, **line}) for line in plan_lines(plan)))
    (folder / "tasks.jsonl").write_bytes(b"".join(text_of({"schema": 1, **line}) for line in lines))
    if env_id:
        described = {"env_id": env_id, "identity": {"device": "cpu", "cpu_model": env_id}, "code_rev": "c1"}
        (folder / "env.json").write_text(json.dumps(described))
    return folder
