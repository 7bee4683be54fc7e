"""Targets of the store: joining run folders and loading what is in them, a million records.

Two folders of half a million records each, of two machines: groups of eight variants of a linear layer, each with nine
counted metrics, a latency and a ratio, timed in three processes of 20 rounds. A figure is that of a fresh process,
its start and imports included.
"""

from __future__ import annotations

import atexit
import functools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from targets import Figure, Target

from bench.plan.case import Case, Planned, digest
from bench.schedule.run import plan_lines
from bench.stats import log_interval
from bench.store.lines import text_of

RECORDS = 1_000_000
REPEATS = 3
COUNTED = ("params", "macs", "macs_dense", "macs_weight_build", "flops_torch", "weight_bytes", "peak_bytes",
           "arithmetic_intensity", "numeric_error")  # fmt: skip
ALGEBRAS = [("real", 1), ("complex", 2), ("dual", 2), ("quaternion", 4), ("ph", 2), ("ph", 4), ("ph", 8), ("ph", 16)]
GROUPS = RECORDS // (2 * len(ALGEBRAS) * (len(COUNTED) + 2)) + 1


def _group(number: int) -> list[Case]:
    shape = (("batch", 1 + number), ("channels", 96), ("out_channels", None))
    return [Case("linear", "layer", algebra, n, shape) for algebra, n in ALGEBRAS]


def _lines(cases: list[Case], env_id: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    """The finished tasks of a group."""

    def task(
        kind: str, ids: list[str], repetition: int, siblings: int, results: list[dict[str, Any]]
    ) -> dict[str, Any]:
        chunk = digest([kind, ids])
        return {
            "schema": 1, "task_id": digest([chunk, repetition]), "chunk_id": chunk, "kind": kind,
            "repetition": repetition, "siblings": siblings, "started": "2026-01-01T00:00:00+00:00", "wall": 1.0,
            "env_id": env_id, "code_rev": "0123456789ab", "protocol_version": 2, "results": results,
        }  # fmt: skip

    def result(case: Case, values: dict[str, float], seconds: list[float], details: dict[str, Any]) -> dict[str, Any]:
        told = {"status": "ok", "reason": "", "path_built": "dense", "unsupported": {}}
        return {"case_id": case.id, **told, "values": values, "seconds": seconds, "details": details}

    for case in cases:
        values = {name: rng.randrange(10**6) for name in COUNTED[:-1]} | {"numeric_error": 2e-7 * rng.random()}
        details = {
            "threads": 1,
            "flops_torch_uncounted": {"aten.clone": 1},
            "traffic": {"flop": 10**6, "bytes": 10**5},
        }
        yield task("static", [case.id], 0, 1, [result(case, values, [], details)])
    ids = [case.id for case in cases]
    for repetition in range(3):
        seen = {"seconds": 1.0, "cores": 2, "foreign_cpu": 0.001, "steal": 0.0, "clock": [2.6e9, 2.6e9]}
        details = {"stopped": "precision", "settled": True, "calls_per_block": 8, "threads": 2, "watch": seen}
        timed = [result(case, {}, [rng.lognormvariate(-7, 0.02) for _ in range(20)], details) for case in cases]
        yield task("timing", ids, repetition, 3, timed)


@functools.cache
def _folders() -> tuple[Path, list[str]]:
    """Where the two folders are, made once."""
    root = Path(tempfile.mkdtemp(prefix="bench-store-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    metrics = frozenset({*COUNTED, "latency", "latency_ratio"})
    for name in ("one", "other"):
        rng = random.Random(name)
        (root / name).mkdir()
        with (root / name / "plan.jsonl").open("wb") as plan, (root / name / "tasks.jsonl").open("wb") as tasks:
            for number in range(GROUPS):
                cases = _group(number)
                asked = plan_lines([Planned(case, metrics) for case in cases])
                plan.writelines(text_of({"schema": 1, **line}) for line in asked)
                tasks.writelines(map(text_of, _lines(cases, f"cpu-{name}", rng)))
    return root, [str(root / name) for name in ("one", "other")]


def _in_a_process(script: str) -> dict[str, float]:
    """Seconds, peak GB and what it counted, of a fresh interpreter that runs the script."""
    measured = f"""
        import json, resource, time
        begun = time.perf_counter()
        {script}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps({{"seconds": time.perf_counter() - begun, "peak": peak, "count": count}}))
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(measured)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(told.stdout)
    return found


@functools.cache
def _merged() -> list[dict[str, float]]:
    root, folders = _folders()
    found = []
    for _ in range(REPEATS):
        shutil.rmtree(root / "merged", ignore_errors=True)
        paths = ", ".join(f"Path({folder!r})" for folder in folders)
        script = f"from pathlib import Path; from bench.store.merge import merge; count = merge([{paths}], Path({str(root / 'merged')!r})).tasks.total()"
        found.append(_in_a_process(script))
        assert found[-1]["count"] == 2 * GROUPS * (len(ALGEBRAS) + 3)
    return found


@functools.cache
def _loaded() -> list[dict[str, float]]:
    root, _ = _folders()
    _merged()
    found = [
        _in_a_process(f"import bench; count = len(bench.load({str(root / 'merged')!r}))") for _ in range(REPEATS)
    ]
    assert all(own["count"] == 2 * GROUPS * len(ALGEBRAS) * (len(COUNTED) + 2) >= RECORDS for own in found)
    return found


def _figure(found: list[dict[str, float]], what: str) -> Figure:
    interval = log_interval([own[what] for own in found])
    return Figure(interval.value, interval.lo, interval.hi)


TARGETS = [
    Target("bench merge, two folders of 1,000,000 records", "s", 10.0, lambda: _figure(_merged(), "seconds")),
    Target("bench merge, its peak memory", "GB", 2.0, lambda: _figure(_merged(), "peak")),
    Target("bench.load of the 1,000,000 records", "s", 10.0, lambda: _figure(_loaded(), "seconds")),
    Target("bench.load, its peak memory", "GB", 2.0, lambda: _figure(_loaded(), "peak")),
]
