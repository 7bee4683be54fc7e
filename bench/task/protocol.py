"""What crosses the border between the parent and a worker process: one request in, one reply out, both JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..plan.case import Case, Kind, Task
from ..plan.sweep import Protocol

VERSION = 2  # raise it when the way of measuring changes: older results then count as not done

# skipped: by the budget of a run; what can never be measured is skipped in the plan
Status = Literal["ok", "skipped", "unsupported", "oom", "timeout", "crashed", "wrong", "error"]
FAILED = ("oom", "timeout", "crashed", "error")  # what bench run --retry-failed measures again

NO_SPACE = 74  # the exit code of a worker that cannot write its reply (EX_IOERR of sysexits.h)


def wants_memory(text: str) -> bool:
    """Whether that is what torch's allocator, or C++ itself, says when there is no memory."""
    return "DefaultCPUAllocator" in text or "std::bad_alloc" in text


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")  # an infinite error is an answer


class Training(_Message):
    """Where a training keeps what is not a result.

    checkpoints: a folder of its own, written to every ``every`` seconds at most; track, tracks: see tracking.
    """

    checkpoints: str | None = None
    every: float = 20.0
    track: str | None = None
    tracks: str = "tracks"


class Request(_Message):
    """A task with all that a worker needs to know; cases as factors.

    plugins: the modules that the user allowed with --plugin, from which subjects come that no package offers.
    """

    version: int = VERSION
    kind: Kind
    cases: list[dict[str, Any]]
    controlled: list[dict[str, Any]] = []
    metrics: list[str]
    repetition: int
    device: str
    threads: int
    protocol: Protocol
    data_root: str | None = None
    plugins: list[str] = []
    training: Training = Training()

    @classmethod
    def of(
        cls,
        task: Task,
        device: str,
        threads: int,
        protocol: Protocol,
        data_root: str | None,
        cases: Sequence[Case] | None = None,
        plugins: Sequence[str] = (),
        training: Training | None = None,
    ) -> Request:
        """The request for one task, or for some of its ``cases``."""
        return cls(
            kind=task.kind,
            cases=[case.factors for case in (task.cases if cases is None else cases)],
            controlled=[case.factors for case in task.controlled],
            metrics=list(task.metrics),
            repetition=task.repetition,
            device=device,
            threads=threads,
            protocol=protocol,
            data_root=data_root,
            plugins=list(plugins),
            training=training or Training(),
        )

    def case_list(self) -> list[Case]:
        """The cases as values."""
        return [Case.from_factors(factors) for factors in self.cases]

    def controlled_by(self, case: Case) -> Case | None:
        """The case that a slim control controls."""
        found = [Case.from_factors(factors) for factors in self.controlled]
        return next((other for other in found if case.control == f"slim:{other.id}"), None)


class Failure(_Message):
    """Why there is no value."""

    status: Status
    reason: str


class Result(_Message):
    """What a worker found of one case.

    values: metric → value; unsupported, failed: the metrics that have none, each for a reason of its own; seconds:
    raw samples of a timing task, one a round, aligned over the cases of the reply; details: whatever explains the
    values (uncounted operators, why the timing stopped, the learning curve); part: which process of the task it is
    from, where a case that failed was taken out and the others measured again: samples are aligned within a part.
    """

    case_id: str
    status: Status = "ok"
    reason: str = ""
    path_built: str = ""
    values: dict[str, float | int] = {}
    unsupported: dict[str, str] = {}
    failed: dict[str, Failure] = {}
    seconds: list[float] = []
    details: dict[str, Any] = {}
    part: int = 0


class Reply(_Message):
    """All results of a task."""

    results: list[Result]
