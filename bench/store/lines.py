"""The lines of a run folder, read back: what each must hold, and a clear error for one that does not.

A line is data: it is parsed and checked in one pass, and nothing in it is evaluated, imported or opened. A last line
without its end was cut short by a kill and is not there yet; any other line that cannot be understood is an error
with its number, never dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from ..errors import UsageError
from ..metrics import METRICS
from ..plan.case import Kind
from ..task.protocol import Status

SCHEMA = 1

# a name that is also that of a file (a log, a claim, the roofs of an env): it must not lead out of its folder
Name = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._+-]*$", max_length=200)]
_Moment = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$")]
_Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Scalar = str | bool | _Whole | Annotated[float, Field(allow_inf_nan=False)] | None
_open = with_config(ConfigDict(strict=True, extra="allow"))  # what we read is checked, what is added is kept
_closed = with_config(ConfigDict(strict=True, extra="forbid"))


def _known(metrics: list[str]) -> list[str]:
    if unknown := sorted(set(metrics) - set(METRICS)):
        raise ValueError(f"{unknown[0]!r} is no metric")
    return metrics


@_open
class _Gpu(TypedDict, total=False):
    others: _Count
    reasons: list[str]
    power_violation: float
    thermal_violation: float


@_open
class _Watch(TypedDict, total=False):
    cores: _Count
    foreign_cpu: float
    steal: float
    throttle_events: int
    clock: Annotated[list[_Seconds], Field(min_length=2, max_length=2)]
    gpu: _Gpu


@_open
class _Traffic(TypedDict):
    flop: _Figure
    bytes: _Figure


@_open
class _Details(TypedDict, total=False):
    """What the records read of a result's details; anything else explains a value to people."""

    threads: _Count
    calls_per_block: _Count
    placements: list[_Whole]
    traffic: _Traffic
    watch: _Watch
    watch_energy: _Watch


@_closed
class _Failure(TypedDict):
    status: Status
    reason: str


@_open
class _Result(TypedDict):
    case_id: Name
    status: Status
    reason: str
    path_built: str
    values: dict[str, float]  # an infinite error is an answer
    unsupported: dict[str, str]
    seconds: list[_Seconds]
    details: _Details
    failed: NotRequired[dict[str, _Failure]]
    part: NotRequired[_Count]


@_open
class _TaskLine(TypedDict):
    schema: int
    task_id: Name
    chunk_id: Name
    kind: Kind
    repetition: _Count
    siblings: _Count
    started: _Moment
    wall: _Figure
    env_id: Name
    code_rev: Name
    protocol_version: _Whole
    results: list[_Result]
    hardware: NotRequired[str]
    attempts: NotRequired[_Count]
    said: NotRequired[list[str]]


@_closed
class _Factors(TypedDict):
    """The factors of ``bench.plan.case.Case``; those from ``phase`` on have a default."""

    subject: str
    kind: Literal["layer", "model"]
    algebra: str
    n: _Whole
    shape: dict[str, _Scalar]
    phase: NotRequired[str]
    timer: NotRequired[str]
    compile: NotRequired[str]
    dtype: NotRequired[str]
    precision: NotRequired[str]
    path: NotRequired[str]
    rank: NotRequired[_Whole]
    threads: NotRequired[_Whole]
    memory_format: NotRequired[str]
    control: NotRequired[str]
    data: NotRequired[str]
    recipe: NotRequired[dict[str, _Scalar | list[_Scalar]]]
    seed: NotRequired[_Whole]
    twin: NotRequired[str]
    options: NotRequired[dict[str, _Scalar]]


@_open
class _PlanLine(TypedDict):
    schema: int
    case: _Factors
    metrics: Annotated[list[str], AfterValidator(_known)]
    skipped: str | None
    controlled: _Factors | None
    env_id: NotRequired[Name]


# ---------------------------------------------------------------------------------------------------- reading

Line = dict[str, Any]


@cache
def _shape(name: str) -> TypeAdapter[Any]:
    return TypeAdapter({"tasks.jsonl": _TaskLine, "plan.jsonl": _PlanLine}[name])


class OtherSchemaError(ValueError):
    """A line of another version of the format."""


def parse(name: str, text: bytes) -> Line:
    """A line of the file ``name``; ValueError says in a few words why it is none."""
    try:
        line: Line = _shape(name).validate_json(text)
    except ValidationError as error:
        if _other_schema(text) is not None:
            raise OtherSchemaError(_other_schema(text)) from None
        raise ValueError(_first(error)) from None
    if line["schema"] != SCHEMA:
        raise OtherSchemaError(line["schema"])
    if line.get("kind") == "timing":
        _check_aligned(line)
    return line


def _check_aligned(line: Line) -> None:
    """In a process that timed, every case that it timed has as many rounds as the others."""
    rounds: dict[int, int] = {}
    for result in line["results"]:
        if result["status"] == "ok" and len(result["seconds"]) != rounds.setdefault(
            result.get("part", 0), len(result["seconds"]) or -1
        ):
            raise ValueError("results: cases of one process have as many rounds, and at least one")
        placements = result["details"].get("placements")
        if placements and (min(placements) < 1 or sum(placements) != len(result["seconds"])):
            raise ValueError("results: the rounds of all placements are the rounds of the process")


def _other_schema(text: bytes) -> int | None:
    """The version of this format that a line is of, if it says so and it is another one."""
    try:
        line = from_json(text)
    except ValueError:
        return None
    schema = line.get("schema") if isinstance(line, dict) else None
    return schema if type(schema) is int and schema != SCHEMA else None


def _first(error: ValidationError) -> str:
    """The first thing that is wrong with a line, in a few words."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    return plain(f"{where}: {first['msg']}".removeprefix(": "))


def plain(text: str) -> str:
    """Text from a file, fit to stand in a line of an error."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:200]


class Growing:
    """A file of lines that others append to: each call of ``fresh`` gives the lines that came since the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode, self._offset, self._number = 0, 0, 0

    def fresh(self) -> Iterator[tuple[Line, bytes]]:
        """The whole lines after those given before, each checked, and as they stand in the file.

        All lines anew if the file was replaced meanwhile. Raises UsageError for a line that is damaged.
        """
        try:
            with self.path.open("rb") as file:
                if (inode := os.fstat(file.fileno()).st_ino) != self._inode:
                    self._inode, self._offset, self._number = inode, 0, 0
                file.seek(self._offset)
                for text in file:
                    if not text.endswith(b"\n"):  # torn by a kill, or being written
                        return
                    self._offset += len(text)
                    self._number += 1
                    yield self._parsed(text), text
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read ({error.strerror}): mend it, or choose --out") from None

    def skip(self, text: bytes) -> None:
        """Pass over lines that the caller has just appended, after everything before them was read."""
        self._inode = self.path.stat().st_ino
        self._offset += len(text)
        self._number += text.count(b"\n")

    def _parsed(self, text: bytes) -> Line:
        try:
            return parse(self.path.name, text)
        except OtherSchemaError as schema:
            raise UsageError(
                f"{self.path}, line {self._number} is of schema {schema}, not {SCHEMA}: read it with the "
                "version that wrote it, and choose another folder with --out"
            ) from None
        except ValueError as error:
            raise UsageError(
                f"{self.path}, line {self._number} is damaged ({error}): remove that line, and what it held is "
                "measured again"
            ) from None


def each(folder: Path, name: str) -> Iterator[Line]:
    """The lines of a file in a run folder, oldest first."""
    return (line for line, _ in Growing(folder / name).fresh())


def read_tasks(folder: Path) -> list[Line]:
    """All finished tasks of a run folder, oldest first."""
    return list(each(folder, "tasks.jsonl"))


def read_plan(folder: Path) -> list[Line]:
    """All planned cases of a run folder, oldest first."""
    return list(each(folder, "plan.jsonl"))


def text_of(line: Line) -> bytes:
    """A line as it is stored; what could not be read back is replaced in texts, never written."""
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
