"""The store of one run folder: finished tasks, one JSON line each, and the plan that asked for them.

    <folder>/plan.jsonl     a line for each planned case: its factors, the metrics wanted, why it was skipped
    <folder>/tasks.jsonl    a line for each finished task: its key, its results, all raw samples
    <folder>/env.json       what machine and software it ran on
    <folder>/logs/          what each task printed

The store knows rows, not metrics. A line is written whole and flushed to the disk before the next task starts, so
a killed run loses nothing that was finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError, field_validator

from .case import Case
from .errors import UsageError
from .protocol import Result

SCHEMA = 1


class Store:
    """A run folder, opened for appending by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"{folder} is in use by another run: wait for it, or choose another --out") from None
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be written ({error.strerror}): choose a folder of your own with --out"
            ) from None
        for name in ("tasks.jsonl", "plan.jsonl"):
            _heal(folder / name)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def claim(self, task_ids: Sequence[str], place: str = "") -> list[str]:
        """Those of the tasks that are now ours to measure: all, for one process at a time has the folder."""
        return list(task_ids)

    def add_task(self, line: dict[str, Any], place: str = "") -> None:
        """Append a finished task."""
        _append(self.folder / "tasks.jsonl", {"schema": SCHEMA, **line})

    def add_plan(self, lines: list[dict[str, Any]]) -> None:
        """Append the planned cases that the folder does not know yet."""
        path = self.folder / "plan.jsonl"
        known = {json.dumps(line, sort_keys=True) for line in read_plan(self.folder)}
        for line in lines:
            full = {"schema": SCHEMA, **line}
            if json.dumps(full, sort_keys=True) not in known:
                _append(path, full)

    def write(self, name: str, text: str) -> None:
        """Replace a whole file beside the lines, at once."""
        write_whole(self.folder / name, lambda path: path.write_text(text, encoding="utf-8"))

    def tasks(self) -> list[dict[str, Any]]:
        """All finished tasks, oldest first."""
        return read_tasks(self.folder)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file aside and move it into place: whoever reads it sees the old one or the new one, whole."""
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): choose another folder with --out") from None


def read_tasks(folder: Path) -> list[dict[str, Any]]:
    """All finished tasks of a run folder, oldest first."""
    return list(_lines(folder / "tasks.jsonl", _TaskLine))


def read_plan(folder: Path) -> list[dict[str, Any]]:
    """All planned cases of a run folder, oldest first."""
    return list(_lines(folder / "plan.jsonl", _PlanLine))


class _TaskLine(BaseModel):
    schema_: int = Field(alias="schema")
    task_id: str
    chunk_id: str
    kind: str
    repetition: int
    siblings: int
    started: str
    wall: float
    env_id: str
    code_rev: str
    protocol_version: int
    results: list[Result]


class _PlanLine(BaseModel):
    schema_: int = Field(alias="schema")
    case: dict[str, Any]
    metrics: list[str]
    skipped: str | None
    controlled: dict[str, Any] | None

    @field_validator("case", "controlled")
    @classmethod
    def _describes_a_case(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            if value is not None:
                Case.from_factors(value)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"is no case: {error}") from None
        return value


def _append(path: Path, line: dict[str, Any]) -> None:
    data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): what was finished before is kept") from None


def _lines(path: Path, model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, each checked; a foreign or damaged line is an error, never dropped."""
    if not path.exists():
        return
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], 1):  # the last one is empty, or torn by a kill
        try:
            line = json.loads(text)
            if isinstance(line, dict) and line.get("schema") != SCHEMA:
                raise UsageError(
                    f"{path}, line {number} is of schema {line.get('schema')}, not {SCHEMA}: choose --out"
                )
            model.model_validate(line)
        except ValueError as error:  # json's, pydantic's and unicode's are all ValueErrors
            what = str(error).splitlines()[-2 if isinstance(error, ValidationError) else 0].strip()
            raise UsageError(
                f"{path}, line {number} is damaged ({what}): remove that line, and what it held is measured again"
            ) from None
        yield line


def _heal(path: Path) -> None:
    """Cut off a torn last line, so that the next one does not continue it."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
