"""pytest-benchmark's JSON as a run folder, so that ``bench merge`` and ``bench compare`` take it like any other.

A file is a session: one process, so one observation. Several sessions of the same benchmark are several, and give an
interval. Its benchmarks are timed one after the other, not in rounds, so there is a latency and no ratio.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ..errors import UsageError
from ..plan.case import Case, digest
from ..store.folder import write_whole
from ..store.lines import SCHEMA, Line, Name, parse, plain, text_of

TIMER = "pytest_benchmark"  # as a factor: these times are never compared with those of other timers


class _Stats(BaseModel):
    data: list[float] | None = None
    median: float = Field(gt=0, allow_inf_nan=False)
    iterations: int = Field(1, ge=1)


class _Benchmark(BaseModel):
    fullname: str
    params: dict[str, Any] | None = None
    extra_info: dict[str, Any] = {}
    stats: _Stats


class _Environment(BaseModel):
    """What env.json says of a machine."""

    env_id: Name
    identity: dict[str, Any]


class _Machine(BaseModel, extra="allow"):
    bench: _Environment | None = None


class _Commit(BaseModel):
    id: Name = "unknown"
    dirty: bool = False
    code_rev: Name | None = None


class _Session(BaseModel):
    """What is read of a file; ``bench`` of a machine, ``code_rev`` and ``case`` are ours (tests/perf)."""

    datetime: datetime
    machine_info: _Machine
    commit_info: _Commit = _Commit()
    benchmarks: list[_Benchmark]

    @property
    def machine(self) -> _Environment:
        """Where it ran."""
        if self.machine_info.bench:
            return self.machine_info.bench
        told = self.machine_info.model_extra or {}
        identity = {key: told.get(key) for key in ("machine", "cpu", "system", "python_version")}
        return _Environment(env_id=f"pytest-benchmark-{digest(identity)}", identity=identity)

    @property
    def code_rev(self) -> str:
        """By which code; the commit stands for code that we cannot hash."""
        commit = self.commit_info
        return commit.code_rev or commit.id[:12] + "+" * commit.dirty


def reads(path: Path) -> bool:
    """Whether a path may be that of a session."""
    return path.suffix == ".json" and path.is_file()


def write(path: Path, folder: Path) -> None:
    """Write a session as a run folder of its own.

    A benchmark of ours is the case that it says it is, with this timer; any other is a subject by its name, its
    parameters the shape. Raises UsageError for a file that is none of pytest-benchmark's.
    """
    session = _read(path)
    plan, tasks = _lines(session, path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in (("plan.jsonl", plan), ("tasks.jsonl", tasks)):
        text = b"".join(map(text_of, own))
        for line in text.splitlines():
            _check(name, line, path)
        _put(folder / name, text)
    _put(folder / "env.json", session.machine.model_dump_json(indent=2).encode() + b"\n")


def _put(path: Path, text: bytes) -> None:
    write_whole(path, lambda file: file.write_bytes(text))


def _lines(session: _Session, path: Path) -> tuple[list[Line], list[Line]]:
    """(plan, tasks) of a session, as a store holds them."""
    started = session.datetime if session.datetime.tzinfo else session.datetime.replace(tzinfo=UTC)
    common = {
        "schema": SCHEMA,
        "env_id": session.machine.env_id,
        "code_rev": session.code_rev,
        "protocol_version": 0,
        "kind": "timing",
        "repetition": int(started.timestamp() * 1e6),  # what tells sessions apart
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


def _check(name: str, line: bytes, path: Path) -> None:
    """What is written can be read back: a file may say anything in its parameters and names."""
    try:
        parse(name, line)
    except ValueError as error:
        raise UsageError(f"{path} holds a benchmark that is no record: {error}") from None


def _read(path: Path) -> _Session:
    try:
        return _Session.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path} is no JSON of pytest-benchmark: {where}: {plain(first['msg'])}") from None
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
        raise UsageError(f"{path}: {plain(benchmark.fullname)} names a case that is none: {error}") from None


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _result(case: Case, benchmark: _Benchmark) -> Line:
    found = [second for second in benchmark.stats.data or [] if 0 < second < inf]
    details: dict[str, Any] = {"calls_per_block": benchmark.stats.iterations, "fullname": benchmark.fullname}
    if not found:  # saved without --benchmark-save-data
        details["rounds"] = "not saved: the sample is their median"
    if threads := benchmark.extra_info.get("threads"):
        details["threads"] = threads
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
