"""What crosses the border between the parent and a worker process: one request in, one reply out, both JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .case import Case, Kind, Task
from .sweep import Protocol

VERSION = 2  # raise it when the way of measuring changes: older results then count as not done

# skipped: by the budget of a run; what can never be measured is skipped in the plan
Status = Literal["ok", "skipped", "unsupported", "oom", "timeout", "crashed", "wrong", "error"]
FAILED = ("oom", "timeout", "crashed", "error")  # what bench run --retry-failed measures again


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")  # an infinite error is an answer


class Request(_Message):
    """A task with all that a worker needs to know; cases as factors."""

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

    @classmethod
    def of(cls, task: Task, device: str, threads: int, protocol: Protocol, data_root: str | None) -> Request:
        """The request for one task."""
        return cls(
            kind=task.kind,
            cases=[case.factors for case in task.cases],
            controlled=[case.factors for case in task.controlled],
            metrics=list(task.metrics),
            repetition=task.repetition,
            device=device,
            threads=threads,
            protocol=protocol,
            data_root=data_root,
        )

    def case_list(self) -> list[Case]:
        """The cases as values."""
        return [Case.from_factors(factors) for factors in self.cases]

    def controlled_by(self, case: Case) -> Case | None:
        """The case that a slim control controls."""
        found = [Case.from_factors(factors) for factors in self.controlled]
        return next((other for other in found if case.control == f"slim:{other.id}"), None)


class Result(_Message):
    """What a worker found of one case.

    values: metric → value; seconds: raw samples of a timing task, one a round, aligned over the cases of the reply;
    details: whatever explains the values (uncounted operators, why the timing stopped, the learning curve).
    """

    case_id: str
    status: Status = "ok"
    reason: str = ""
    path_built: str = ""
    values: dict[str, float | int] = {}
    unsupported: dict[str, str] = {}
    seconds: list[float] = []
    details: dict[str, Any] = {}


class Reply(_Message):
    """All results of a task."""

    results: list[Result]
