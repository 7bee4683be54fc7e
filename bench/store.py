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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import UsageError

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

    def add_task(self, line: dict[str, Any]) -> None:
        """Append a finished task."""
        _append(self.folder / "tasks.jsonl", {"schema": SCHEMA, **line})

    def add_plan(self, lines: list[dict[str, Any]]) -> None:
        """Append the planned cases that the folder does not know yet."""
        path = self.folder / "plan.jsonl"
        known = {json.dumps(line, sort_keys=True) for line in _lines(path)}
        for line in lines:
            full = {"schema": SCHEMA, **line}
            if json.dumps(full, sort_keys=True) not in known:
                _append(path, full)

    def write(self, name: str, text: str) -> None:
        """Replace a whole file beside the lines, at once."""
        temporary = self.folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.folder / name)

    def tasks(self) -> list[dict[str, Any]]:
        """All finished tasks, oldest first."""
        return read_tasks(self.folder)


def read_tasks(folder: Path) -> list[dict[str, Any]]:
    """All finished tasks of a run folder, oldest first."""
    return list(_lines(folder / "tasks.jsonl"))


def read_plan(folder: Path) -> list[dict[str, Any]]:
    """All planned cases of a run folder, oldest first."""
    return list(_lines(folder / "plan.jsonl"))


def _append(path: Path, line: dict[str, Any]) -> None:
    data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): what was finished before is kept") from None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith("\n"):
                return  # a line that a kill cut short: its task counts as not done
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                raise UsageError(f"{path}, line {number} is no JSON: remove that line, its task runs again") from None
            if line.get("schema") != SCHEMA:
                raise UsageError(
                    f"{path}, line {number} has schema {line.get('schema')}, this version reads {SCHEMA}: use --out"
                )
            yield line


def _heal(path: Path) -> None:
    """Cut off a torn last line, so that the next one does not continue it."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
