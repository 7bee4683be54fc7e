"""What a person sees while a sweep runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from ..plan.case import Task

LAST = 5  # results that stay on the display


class Progress(Protocol):
    """What is told while a sweep runs.

    seconds: what is still to do, by the pace so far; hardware: the kind of machine that the task is measured on,
    where a sweep names any; a line says it itself.
    """

    def start(self, total: int, done: int, seconds: float) -> None: ...
    def begin(self, task: Task, attempt: int, hardware: str = "") -> None: ...
    def again(self, task: Task, reason: str, hardware: str = "") -> None: ...
    def skip(self, task: Task, reason: str, hardware: str = "") -> None: ...
    def end(self, task: Task, line: Mapping[str, Any], seconds: float) -> None: ...


def label(task: Task, hardware: str = "") -> str:
    """A task in a few words."""
    first = task.cases[-1]
    extra = f" +{len(task.cases) - 1}" if len(task.cases) > 1 else ""
    repetition = f" #{task.repetition + 1}" if task.kind == "timing" else ""
    return f"{task.kind}{repetition} {first.name}{extra}" + (f" on {hardware}" if hardware else "")


def problems(line: Mapping[str, Any]) -> list[str]:
    """Why cases or metrics of a finished task have no number, a sentence each."""
    said = []
    for result in line["results"]:
        if result["status"] not in ("ok", "unsupported"):
            said.append(result["reason"])
        said += [f"{metric}: {failure['reason']}" for metric, failure in result.get("failed", {}).items()]
    return said


def found(task: Task, line: Mapping[str, Any]) -> str:
    """The first thing that a finished task says: how its last case compares, or one of its values."""
    by_id = {result["case_id"]: result for result in line["results"]}
    result = by_id.get(task.cases[-1].id, {"status": "", "values": {}, "seconds": []})
    if result["status"] != "ok":
        return str(result["status"])
    if own := result["seconds"]:
        real = [case.id for case in task.cases if case.is_baseline and case.id in by_id]
        base = by_id[real[0]]["seconds"] if real else []
        ratio = statistics.median(own) / statistics.median(base) if base else 1.0
        return f"{statistics.median(own):.3g} s, {ratio:.2f} × real"
    name = next((name for name in ("accuracy", *task.metrics) if name in result["values"]), None)
    return f"{name} {result['values'][name]:.6g}" if name else "ok"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


class Plain:
    """A line a task, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done = self.total = 0

    def start(self, total: int, done: int, seconds: float) -> None:
        self.total, self.done = total, done
        self._print(f"{total} tasks, {done} done before, about {clock(seconds)} left")

    def begin(self, task: Task, attempt: int, hardware: str = "") -> None:
        """Nothing: a line is printed when a task ends."""

    def again(self, task: Task, reason: str, hardware: str = "") -> None:
        self._print(f"    {label(task, hardware)}: {reason}; it is measured again")

    def skip(self, task: Task, reason: str, hardware: str = "") -> None:
        """Nothing: the summary of the run says how many."""

    def end(self, task: Task, line: Mapping[str, Any], seconds: float) -> None:
        self.done += 1
        head = f"[{self.done}/{self.total}, {clock(seconds)} left]"
        self._print(f"{head} {label(task, line.get('hardware', ''))} {line['wall']:.1f} s: {found(task, line)}")
        for problem in problems(line):
            self._print(f"    {problem}")

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class Live:
    """A bar for all tasks, the groups that are being measured, how long the rest will take, and the last results."""

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.bar = RichProgress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left", markup=False),
            console=console,
        )  # fmt: skip
        self.task = self.bar.add_task(title, total=None, left="?")
        self.running: dict[tuple[str, str], Task] = {}  # by hardware too
        self.last: deque[str] = deque(maxlen=LAST)
        self.ends = 0.0

    def start(self, total: int, done: int, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.bar.update(self.task, total=total, completed=done)

    def begin(self, task: Task, attempt: int, hardware: str = "") -> None:
        self.running[task.id, hardware] = task

    def again(self, task: Task, reason: str, hardware: str = "") -> None:
        self.running.pop((task.id, hardware), None)
        self.last.append(f"{label(task, hardware)}: {reason}; it is measured again")

    def skip(self, task: Task, reason: str, hardware: str = "") -> None:
        """Nothing: the bar stays short of its end, and the summary of the run says why."""

    def end(self, task: Task, line: Mapping[str, Any], seconds: float) -> None:
        hardware = line.get("hardware", "")
        self.running.pop((task.id, hardware), None)
        self.ends = time.monotonic() + seconds
        self.bar.advance(self.task)
        self.last.append(f"{label(task, hardware)}: {found(task, line)}")
        for problem in problems(line):
            self.console.print(f"{label(task, hardware)}: {problem}", highlight=False, markup=False)

    def __rich__(self) -> Group:
        left = clock(max(0.0, self.ends - time.monotonic()))
        self.bar.update(self.task, left=left)
        now = [f"  now   {group}" for group in groups(list(self.running.values()))]
        last = [f"  last  {line}" for line in self.last]
        return Group(
            self.bar, *(Text(line, no_wrap=True, overflow="ellipsis", style="dim") for line in [*last, *now])
        )


def groups(tasks: Sequence[Task]) -> list[str]:
    """What is being measured, a line a group."""
    names: dict[str, list[Task]] = {}
    for task in tasks:
        names.setdefault(task.cases[0].group_id, []).append(task)
    return [f"{label(own[0])}" + (f" and {len(own) - 1} more" if own[1:] else "") for own in names.values()][:LAST]


@contextmanager
def make_progress(title: str) -> Iterator[Progress]:
    """The display that fits where the output goes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Plain(console)
        return
    live = Live(console, title)
    with RichLive(live, console=console, refresh_per_second=2):
        yield live
