"""What the parent and the jobs of a cluster tell each other: files in the run folder, each written whole.

    spool/<batch>/batch.json        an array of jobs: which orders each of them has
    spool/<batch>/<index>.json      those orders, as the job reads them
    spool/<key>.json                how an order ended, until the parent has stored it

An order's key names its task, its attempt and a hash of all else that makes it what it is (the request, the hardware,
the sources that measure), so that an answer is never taken for that of another question. All of it is JSON that is
checked when it is read; a batch also holds what submitit keeps for its jobs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phnn.registry import origin

from ..errors import UsageError
from ..machine import env, roofs
from ..plan.case import digest
from ..store.folder import inside
from ..task.protocol import Reply, Request
from .engine import Crumb, Order

_KEY = r"^[0-9a-f]{12}\.[0-9]{1,4}\.[0-9a-f]{12}$"
_M = TypeVar("_M", bound=BaseModel)
_BATCH = re.compile(r"bench_[0-9a-f]{12}")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    format: Literal[1] = 1  # raise it with what is written


class Asked(_Message):
    """An order as a job gets it, with the sources that it is to be measured with."""

    key: str = Field(pattern=_KEY)
    task_id: str
    attempt: int
    hardware: str = Field(pattern=r"^[A-Za-z0-9_.-]*$")
    code_rev: str
    request: Request

    @classmethod
    def of(cls, order: Order, salt: str = "") -> Asked:
        """A timing task that names no number of threads gets 0: all cores, and those are counted where it runs.

        salt: makes the order another one than any that was made before.
        """
        request = order.request
        if request.kind == "timing":
            request = request.model_copy(update={"threads": request.case_list()[0].threads})
        code_rev = revision(request)
        rest = digest([request.model_dump(mode="json"), order.hardware, code_rev, salt])
        key = f"{order.task_id}.{order.attempt}.{rest}"
        return cls(
            key=key, task_id=order.task_id, attempt=order.attempt, hardware=order.hardware, code_rev=code_rev,
            request=request,
        )  # fmt: skip

    @property
    def order(self) -> Order:
        return Order(self.task_id, self.attempt, self.request, self.hardware)


class Answer(_Message):
    """How an order ended, or that its job did not begin it.

    left: the job's time was nearly over; refused: the machine is not what was asked for, and ``said`` tells why.
    """

    task_id: str
    ending: Literal["replied", "timeout", "died", "left", "refused"]
    host: str
    env_id: str = ""
    started: str = ""
    wall: float = 0.0
    reply: Reply | None = None
    code: int | None = None
    crumb: Crumb | None = None
    oom_kills: int = 0
    log: str = ""
    said: str = ""


class Job(_Message):
    """What one job does; minutes: how long it may last."""

    minutes: int
    orders: list[Asked]


class Batch(_Message):
    """An array of jobs: the keys of each. made: seconds since 1970."""

    made: float
    jobs: list[list[str]]


class Spool:
    """The spool of a run folder."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "spool"

    def open(self) -> None:
        """Make the folder; a UsageError where it cannot be made, or is a link."""
        try:
            inside(self.folder.parent, self.folder.name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be made ({error.strerror}): choose another --out") from None

    def answered(self) -> set[str]:
        """The keys of the answers that lie here."""
        _refresh(self.folder)
        return {path.stem for path in self.folder.glob("*.json") if re.fullmatch(_KEY, path.stem)}

    def answer(self, key: str) -> Answer:
        """The answer to an order. A UsageError for what is none."""
        return _read(self.folder / f"{key}.json", Answer, "its task is measured again")

    def put_answer(self, key: str, answer: Answer) -> None:
        """Write it whole."""
        _write(self.folder / f"{key}.json", answer)

    def drop(self, key: str) -> None:
        """Forget an answer."""
        (self.folder / f"{key}.json").unlink(missing_ok=True)

    def put_batch(self, name: str, made: float, minutes: int, jobs: Sequence[Sequence[Asked]]) -> Path:
        """Write down a batch before it is submitted; its folder. A UsageError where there is no room for it."""
        folder = self.folder / name
        try:
            folder.mkdir()
            for index, orders in enumerate(jobs):
                _write(folder / f"{index}.json", Job(minutes=minutes, orders=list(orders)))
            _write(folder / "batch.json", Batch(made=made, jobs=[[asked.key for asked in orders] for orders in jobs]))
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be written ({error.strerror}): what was finished before is kept; make room for it"
            ) from None
        return folder

    def job(self, batch: str, index: int) -> Job:
        """What a job is to do."""
        return _read(self.folder / batch / f"{index}.json", Job, "the run is started again")

    def batches(self) -> Iterator[tuple[str, Batch]]:
        """All batches by name, those that another run has left too."""
        for path in sorted(self.folder.iterdir()):
            if _BATCH.fullmatch(path.name) and (path / "batch.json").exists():
                yield path.name, _read(path / "batch.json", Batch, "the run is started again")

    def drop_batch(self, name: str) -> None:
        """Forget a batch with all that submitit keeps of it."""
        shutil.rmtree(self.folder / name, ignore_errors=True)  # a job that has just ended may still close its log


def revision(request: Request) -> str:
    """The revision of the sources that a request is measured with, as they are on this machine."""
    modules = {origin(case.subject).module for case in request.case_list()}
    return env.code_rev(tuple(sorted(modules - {"phnn"})), request.kind == "training")


def _refresh(folder: Path) -> None:
    """Make a network file system look again: to change a folder is to ask its server for it."""
    os.utime(folder)


def _write(path: Path, message: BaseModel) -> None:
    _whole(path, message.model_dump_json())


def _whole(path: Path, text: str) -> None:
    """Write a file whole, and flushed: a reader on another machine sees all of it or nothing, whoever else writes."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read(path: Path, model: type[_M], remedy: str) -> _M:
    try:
        return model.model_validate(json.loads(path.read_bytes()))
    except (ValueError, ValidationError) as error:
        what = str(error).strip().splitlines()[-2 if isinstance(error, ValidationError) else 0].strip()
        raise UsageError(f"{path} is damaged ({what}): remove it, and {remedy}") from None


def describe(device: str, run: Path) -> dict[str, Any]:
    """Write down, beside the results, what machine this is and the roofs that it keeps of itself; its description."""
    described = env.describe(device)
    files = {"envs": json.dumps(described, indent=2)}
    if measured := roofs.load(roofs.kept_at(described["env_id"])):
        files["roofs"] = measured.model_dump_json(indent=2)
    for folder, text in files.items():
        inside(run, folder).mkdir(parents=True, exist_ok=True)
        _whole(run / folder / f"{described['env_id']}.json", text + "\n")
    return described
