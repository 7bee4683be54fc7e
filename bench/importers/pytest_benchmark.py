"""pytest-benchmark's JSON as a run folder, so that ``bench merge`` and ``bench compare`` take it like any other.

A file is a session: one process, so one observation. Several sessions of the same benchmark are several, and give an
interval. Its benchmarks are timed one after the other, not in rounds, so there is a latency and no ratio.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ..case import Case, digest
from ..errors import UsageError
from ..store import SCHEMA, write_whole

TIMER = "pytest_benchmark"  # as a factor: these times are never compared with those of other timers
Line = dict[str, Any]


class _Stats(BaseModel):
    data: list[float] | None = None
    median: float = Field(gt=0, allow_inf_nan=False)
    iterations: int = 1


class _Benchmark(BaseModel):
    fullname: str
    params: dict[str, Any] | None = None
    extra_info: dict[str, Any] = {}
    stats: _Stats


class _Session(BaseModel):
    """What is read of a file; ``bench`` in machine_info and ``case`` in extra_info are ours (tests/perf)."""

    datetime: datetime
    machine_info: dict[str, Any]
    commit_info: dict[str, Any] = {}
    benchmarks: list[_Benchmark]


def reads(path: Path) -> bool:
    """Whether a file looks like one of pytest-benchmark's."""
    return path.suffix == ".json" and path.is_file()


def lines(path: Path) -> tuple[list[Line], list[Line]]:
    """(plan, tasks) of a session, as a store holds them.

    A benchmark of ours is the case that it says it is, with this timer; any other is a subject by its name, its
    parameters the shape. Raises UsageError for a file that is none of pytest-benchmark's.
    """
    session = _read(path)
    started = session.datetime if session.datetime.tzinfo else session.datetime.replace(tzinfo=UTC)
    known = session.machine_info.get("bench") or {}
    machine = {key: session.machine_info.get(key) for key in ("machine", "cpu", "system", "python_version")}
    common = {
        "schema": SCHEMA,
        "env_id": str(known.get("env_id") or f"pytest-benchmark-{digest(machine)}"),
        "code_rev": str(known.get("code_rev") or str(session.commit_info.get("id") or "unknown")[:12]),
        "protocol_version": 0,
        "kind": "timing",
        "repetition": int(started.timestamp()),  # what tells sessions apart
        "siblings": 1,
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
    }
    plan, tasks = [], []
    for benchmark in session.benchmarks:
        case = _case(benchmark, path)
        plan.append(
            {"schema": SCHEMA, "case": case.factors, "metrics": ["latency"], "skipped": None, "controlled": None}
        )
        chunk = digest([TIMER, case.id])
        result = _result(case, benchmark)
        tasks.append(
            {
                **common,
                "task_id": digest([chunk, common["repetition"]]),
                "chunk_id": chunk,
                "wall": round(sum(result["seconds"]) * benchmark.stats.iterations, 3),
                "results": [result],
            }
        )
    return plan, tasks


def write(path: Path, folder: Path) -> None:
    """Write a session as a run folder of its own."""
    plan, tasks = lines(path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in (("plan.jsonl", plan), ("tasks.jsonl", tasks)):
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in own)
        write_whole(folder / name, lambda file, text=text: file.write_text(text, encoding="utf-8"))  # type: ignore[misc]


def _read(path: Path) -> _Session:
    try:
        return _Session.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path} is no JSON of pytest-benchmark: {where}: {first['msg'].splitlines()[0]}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no JSON of pytest-benchmark: it is not text") from None


def _case(benchmark: _Benchmark, path: Path) -> Case:
    if "case" not in benchmark.extra_info:
        params = {key: value for key, value in (benchmark.params or {}).items() if _scalar(value)}
        shape = tuple(sorted(params.items()))
        return Case(benchmark.fullname, "layer", "none", 1, shape, phase="none", timer=TIMER, path="none")
    factors = benchmark.extra_info["case"]
    try:
        return Case.from_factors({**factors, "timer": TIMER})
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"{path}: {benchmark.fullname} names a case that is none: {error}") from None


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _result(case: Case, benchmark: _Benchmark) -> Line:
    found = [second for second in benchmark.stats.data or [] if second > 0]
    details: Mapping[str, Any] = {"calls_per_block": benchmark.stats.iterations, "fullname": benchmark.fullname}
    if not found:  # saved without --benchmark-save-data
        details = {**details, "rounds": "not saved: the sample is their median"}
    if threads := benchmark.extra_info.get("threads"):
        details = {**details, "threads": threads}
    return {
        "case_id": case.id,
        "status": "ok",
        "reason": "",
        "path_built": str(benchmark.extra_info.get("path_built", "")),
        "values": {},
        "unsupported": {},
        "seconds": found or [benchmark.stats.median],
        "details": details,
    }
