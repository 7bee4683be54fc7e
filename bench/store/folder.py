"""The store of one run folder: finished tasks, one JSON line each, and the plan that asked for them.

    <folder>/plan.jsonl     a line for each planned case: its factors, the metrics wanted, why it was skipped
    <folder>/tasks.jsonl    a line for each finished task: its key, its results, all raw samples
    <folder>/claims/        which run works on which task (bench.store.claims)
    <folder>/env.json       what machine and software it ran on
    <folder>/logs/          what each task printed

The store knows rows, not metrics. A line is written whole and flushed to the disk before the next task starts, so
a killed run loses nothing that was finished. Any number of runs may share a folder: whoever writes holds its lock,
first cuts off what a killed writer left unfinished, and leaves nothing unfinished itself if the disk is full.
docs/format.md has every file and field.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import UsageError
from ..plan.case import digest
from .claims import Claims
from .lines import SCHEMA, Growing, Line, parse, read_plan, read_tasks, text_of

__all__ = ["SCHEMA", "Store", "inside", "read_plan", "read_tasks", "runs_below", "write_whole"]

PATIENCE = 60.0  # seconds for the lock, which nobody holds for longer than it takes to write a line
_TASKS, _PLAN = "tasks.jsonl", "plan.jsonl"


class Store:
    """A run folder, opened for reading and appending; others may append to it at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / ".lock")
        self._claims = Claims(folder / "claims")
        self._seen: Growing | None = None  # as far as we know what is in
        self._news: list[Line] = []
        with self._writing(folder):
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            for name in (".lock", "logs", "claims", "checkpoints", "tracks", _TASKS, _PLAN):
                inside(folder, name)
            with self._locked():
                for name in (_TASKS, _PLAN):
                    _append(folder / name, b"")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # what ended the run is told; that its claims could not be given back then is not: they end with the process
        with contextlib.suppress(*[UsageError] if kind else []), self._writing(self.folder), self._locked():
            self._claims.end()

    # -------------------------------------------------------------------------------------------------- tasks

    def tasks(self) -> list[Line]:
        """All finished tasks, oldest first; what comes after them is news."""
        self._news.clear()
        self._seen = Growing(self.folder / _TASKS)
        return [line for line, _ in self._seen.fresh()]

    def news(self) -> list[Line]:
        """The tasks that other runs finished since this was last asked, or since ``tasks``."""
        self._look()
        news, self._news = self._news, []
        return news

    def claim(self, task_ids: Sequence[str], place: str = "") -> list[str]:
        """Those of ``task_ids`` that are now ours: no other living run works on them, none finished them meanwhile.

        place: where they are to run, an env_id or a kind of hardware: a claim is for a task there, and machines that
        share a folder do not wait for each other. Ours until ``add_task``, ``release``, or the end of this process,
        however it ends.
        """
        with self._writing(self.folder / "claims"), self._locked():
            keys = {_key(task_id, place): task_id for task_id in task_ids}
            ours = [keys[key] for key in self._claims.take(list(keys))]
            self._look()  # once they are ours nobody else finishes them: what is not in by now will not come
            late = {line["task_id"] for line in self._news if _settles(line, place)}
            self._claims.release([_key(task_id, place) for task_id in ours if task_id in late])
        return [task_id for task_id in ours if task_id not in late]

    def release(self, task_ids: Sequence[str], place: str = "") -> None:
        """Leave tasks to others, unfinished."""
        with self._writing(self.folder / "claims"), self._locked():
            self._claims.release([_key(task_id, place) for task_id in task_ids])

    def held(self, task_ids: Sequence[str], place: str = "") -> dict[str, str]:
        """Those of ``task_ids`` that other living runs work on, each with the name of that run."""
        with self._writing(self.folder / "claims"), self._locked():
            held = self._claims.held()
        keys = {_key(task_id, place): task_id for task_id in task_ids}
        return {keys[key]: run for key, run in held.items() if key in keys}

    def add_task(self, line: Mapping[str, Any], place: str = "") -> None:
        """Append a finished task and release its claim."""
        text = _readable({"schema": SCHEMA, **line})
        with self._locked():
            self._look()
            _append(self.folder / _TASKS, text)
            if self._seen:
                self._seen.skip(text)  # ours is no news
            with self._writing(self.folder / "claims"):
                self._claims.release([_key(line["task_id"], place)])

    def _look(self) -> None:
        if self._seen is None:
            self.tasks()
        else:
            self._news += [line for line, _ in self._seen.fresh()]

    # --------------------------------------------------------------------------------------- plan, other files

    def add_plan(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append the planned cases of which the folder does not know this already."""
        with self._locked():
            known = {_of_case(line): line for line in read_plan(self.folder)}
            full = ({"schema": SCHEMA, **line} for line in lines)
            new = [line for line in full if known.get(_of_case(line)) != line] if known else list(full)
            _append(self.folder / _PLAN, b"".join(map(text_of, new)))

    def write(self, name: str, text: str) -> None:
        """Replace a whole file beside the lines, at once."""
        write_whole(inside(self.folder, name), lambda path: path.write_text(text, encoding="utf-8"))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes to the folder meanwhile."""
        with self._locked():
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._lock.acquire(timeout=PATIENCE, poll_interval=0.01)
        except Timeout:
            raise UsageError(
                f"{self.folder} has been locked by another process for {PATIENCE:g} s: end that one, or choose "
                "another folder with --out"
            ) from None
        except OSError as error:
            raise _cannot(self.folder, error) from None
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _cannot(path, error) from None


def inside(folder: Path, name: str) -> Path:
    """A file or folder of ``folder``, which does not lead out of it: no path, and no link to elsewhere."""
    path = folder / name
    if name in ("", ".", "..") or Path(name).name != name:
        raise UsageError(f"{name!r} is no name of a file in {folder}")
    if path.is_symlink():
        raise UsageError(f"{path} is a link: what a run writes stays in its folder; remove the link")
    return path


def runs_below(folder: Path) -> Iterator[Path]:
    """The folders, this one or below it, that hold a run or a table; links are not followed, so none is outside."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read ({error.strerror}): mend its permissions, or leave it out")

    for at, folders, files in os.walk(folder, onerror=refuse):
        if "plan.jsonl" in files or "table.parquet" in files:
            folders.clear()
            yield Path(at)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file aside and move it into place: whoever reads it sees the old one or the new one, whole."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written ({error.strerror}): choose another folder with --out") from None


def _cannot(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} cannot be written ({error.strerror}): what was finished before is kept; make room for it, or choose "
        "a folder of your own with --out"
    )


def _readable(line: Line) -> bytes:
    """A finished task as text that can be read back: an answer that is none becomes an error of its cases."""
    text = text_of(line)
    try:
        parse(_TASKS, text)
    except ValueError as error:
        reason = f"what it answered is no result: {error}"
        blank = {"path_built": "", "values": {}, "unsupported": {}, "seconds": [], "details": {}}
        told = {"status": "error", "reason": reason, **blank}
        text = text_of({**line, "results": [{"case_id": result["case_id"], **told} for result in line["results"]]})
        parse(_TASKS, text)
    return text


def _settles(line: Line, place: str) -> bool:
    """Whether another run's line leaves nothing to do there: not if it had no time for the task."""
    there = place in ("", line["env_id"], line.get("hardware"))
    return there and all(result["status"] != "skipped" for result in line["results"])


def _key(task_id: str, place: str) -> str:
    return f"{task_id} {place}".rstrip()


def _of_case(line: Mapping[str, Any]) -> str:
    return digest([line["case"], line.get("env_id")])


def _append(path: Path, data: bytes) -> None:
    """Add whole lines to a file, after cutting off a torn last one; if they do not fit it stays as it was."""
    if not data and not path.exists():
        return
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
            end = _whole(file.fileno())
            try:
                if end < os.fstat(file.fileno()).st_size:
                    os.truncate(file.fileno(), end)
                _write_at(file.fileno(), data, end)
                os.fsync(file.fileno())
            except OSError:
                os.truncate(file.fileno(), end)  # takes no room; if it fails too, the next writer heals the tail
                raise
    except OSError as error:
        raise _cannot(path, error) from None


def _write_at(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:  # a disk that fills up takes what fits, and says so at the next call
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _whole(file: int) -> int:
    """The length of a file up to the end of its last whole line."""
    end = os.lseek(file, 0, os.SEEK_END)
    while end:
        start = max(0, end - (1 << 16))
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
