"""A run as a stream of JSON lines, for programs that watch it.

    {"event": "start", "schema": 1, "total": 78, "done": 0, "seconds_left": 241.0}
    {"event": "begin", "task_id": …, "kind": "timing", "name": …, "group_id": …, "repetition": 0, "attempt": 1}
    {"event": "again", "task_id": …, "reason": …}                                     (it died, and is tried again)
    {"event": "end", "task_id": …, "wall": 2.1, "statuses": {case_id: status}, "reasons": […], "seconds_left": 230.0}
    {"event": "skip", "task_id": …, "reason": "budget: …"}                            (there is no time for it)
    {"event": "finish", "measured": 78, "resumed": 0, "failed": 0, …, "exit_code": 0}

Each has "time" besides, seconds since 1970, and what is about a task "hardware" where the sweep names kinds of
machine: a task is measured on each of them. A program must ignore events and keys that it does not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import UsageError
from ..plan.case import Task
from .progress import Progress, problems

SCHEMA = 1


class Events:
    """Writes the stream; a reader that goes away ends the stream and not the run."""

    def __init__(self, file: IO[str] | None, warn: Callable[[str], object]) -> None:
        self.file = file
        self.warn = warn

    def start(self, total: int, done: int, seconds: float) -> None:
        self.tell("start", schema=SCHEMA, total=total, done=done, seconds_left=round(seconds, 1))

    def begin(self, task: Task, attempt: int, hardware: str = "") -> None:
        case = task.cases[-1]
        self.tell(
            "begin", **_whose(task, hardware), kind=task.kind, name=case.name, group_id=case.group_id,
            repetition=task.repetition, attempt=attempt,
        )  # fmt: skip

    def again(self, task: Task, reason: str, hardware: str = "") -> None:
        self.tell("again", **_whose(task, hardware), reason=reason)

    def skip(self, task: Task, reason: str, hardware: str = "") -> None:
        self.tell("skip", **_whose(task, hardware), reason=reason)

    def end(self, task: Task, line: Mapping[str, Any], seconds: float) -> None:
        self.tell(
            "end", **_whose(task, line.get("hardware", "")), wall=line["wall"],
            statuses={result["case_id"]: result["status"] for result in line["results"]},
            reasons=problems(line), seconds_left=round(seconds, 1),
        )  # fmt: skip

    def tell(self, event: str, **fields: Any) -> None:
        """Write one event."""
        if self.file is None:
            return
        try:
            self.file.write(json.dumps({"event": event, "time": round(time.time(), 3), **fields}) + "\n")
            self.file.flush()
        except OSError as error:
            if self.file is sys.stdout:  # what it still holds would be tried again at the interpreter's end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
            self.file = None
            self.warn(f"--events: {error.strerror}; no more events are written, the run goes on")


def _whose(task: Task, hardware: str) -> dict[str, str]:
    return {"task_id": task.id, **({"hardware": hardware} if hardware else {})}


class Several:
    """Tells several watchers."""

    def __init__(self, watchers: Sequence[Progress]) -> None:
        self.watchers = watchers

    def start(self, total: int, done: int, seconds: float) -> None:
        for watcher in self.watchers:
            watcher.start(total, done, seconds)

    def begin(self, task: Task, attempt: int, hardware: str = "") -> None:
        for watcher in self.watchers:
            watcher.begin(task, attempt, hardware)

    def again(self, task: Task, reason: str, hardware: str = "") -> None:
        for watcher in self.watchers:
            watcher.again(task, reason, hardware)

    def skip(self, task: Task, reason: str, hardware: str = "") -> None:
        for watcher in self.watchers:
            watcher.skip(task, reason, hardware)

    def end(self, task: Task, line: Mapping[str, Any], seconds: float) -> None:
        for watcher in self.watchers:
            watcher.end(task, line, seconds)


@contextmanager
def make_events(to: str | None, warn: Callable[[str], object]) -> Iterator[Events]:
    """The stream into a file, or to standard output for ``-``; without a name it goes nowhere."""
    if to is None or to == "-":
        yield Events(sys.stdout if to else None, warn)
        return
    try:
        file = Path(to).open("w", encoding="utf-8")  # noqa: SIM115 - closing it may fail, and that was said before
    except OSError as error:
        raise UsageError(f"--events {to}: cannot be written ({error.strerror})") from None
    try:
        yield Events(file, warn)
    finally:
        with contextlib.suppress(OSError):  # what it could not write was said when it could not
            file.close()
