"""What a person sees while a sweep runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from .case import Task


def _label(task: Task) -> str:
    first = task.cases[-1]
    extra = f" +{len(task.cases) - 1}" if len(task.cases) > 1 else ""
    repetition = f" #{task.repetition + 1}" if task.kind == "timing" else ""
    return f"{task.kind}{repetition} {first.name}{extra}"


class _Pace:
    """How long the rest will take: the mean wall time of each kind of task seen so far."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.now = total, done, 0
        self.started = time.monotonic()

    def step(self) -> None:
        self.done += 1
        self.now += 1

    @property
    def left(self) -> str:
        if not self.now:
            return "?"
        seconds = (time.monotonic() - self.started) / self.now * (self.total - self.done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


class Plain:
    """A line a task, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def start(self, total: int, done: int) -> None:
        self.pace = _Pace(total, done)
        self.console.print(f"{total} tasks, {done} done before", highlight=False)

    def begin(self, task: Task) -> None:
        """Nothing: a line is printed when a task ends."""

    def end(self, task: Task, seconds: float, problems: Sequence[str]) -> None:
        self.pace.step()
        head = f"[{self.pace.done}/{self.pace.total}, {self.pace.left} left]"
        self.console.print(f"{head} {_label(task)} {seconds:.1f} s", highlight=False, markup=False, soft_wrap=True)
        for problem in problems:
            self.console.print(f"    {problem}", highlight=False, markup=False, soft_wrap=True)


class Live(Plain):
    """A bar with what runs, how far it is and how long the rest will take."""

    def __init__(self, console: Console, bar: RichProgress, title: str) -> None:
        super().__init__(console)
        self.bar, self.title = bar, title
        self.running: list[Task] = []

    def start(self, total: int, done: int) -> None:
        self.pace = _Pace(total, done)
        self.task = self.bar.add_task(self.title, total=total, completed=done, left="?", now="")

    def begin(self, task: Task) -> None:
        self.running.append(task)
        self._show()

    def end(self, task: Task, seconds: float, problems: Sequence[str]) -> None:
        self.pace.step()
        self.running.remove(task)
        self._show()
        for problem in problems:
            self.bar.console.print(f"{_label(task)}: {problem}", highlight=False, markup=False)

    def _show(self) -> None:
        now = "; ".join(_label(task) for task in self.running)
        self.bar.update(self.task, completed=self.pace.done, left=self.pace.left, now=now)


@contextmanager
def make_progress(title: str) -> Iterator[Plain]:
    """The display that fits where the output goes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Plain(console)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]} left\n{task.fields[now]}", markup=False),
    )  # fmt: skip
    with RichProgress(*columns, console=console) as bar:
        yield Live(console, bar, title)
