"""``[launch.slurm]``: what a job asks of a cluster, and where the kinds of hardware of a sweep are found on it.

    [launch.slurm]                      of every job
    partition = "main"
    time = "2:00:00"
    [launch.slurm.hardware.epyc]        a kind of machine: each task is measured once on every kind
    constraint = "epyc7763"
    [launch.slurm.hardware.h100]
    partition = "gpu"
    gres = "gpu:h100:1"

The table stands in a sweep, or in a file of its own that ``--profile`` names and that replaces the sweep's. What runs
commands or goes to sbatch unread (``setup``, ``options``) is taken from such a file alone: a sweep is data.

Every job of a kind asks for the same share of a node, whatever its tasks measure: a machine is what a job sees of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .. import tomlfile
from ..errors import UsageError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Word = Annotated[str, Field(pattern=r"^[^\s#\"'`$\\;]*$")]  # it becomes part of a line of a batch script

_STARTUP = 10  # minutes that a job may need beside its tasks: a prolog, a cold file system, the import of torch
_TIME = re.compile(r"(?:(?P<d>[0-9]+)-)?(?P<first>[0-9]+)(?::(?P<second>[0-9]+))?(?::(?P<third>[0-9]+))?")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def minutes(text: str) -> int:
    """SLURM's forms of a time (m, m:s, h:m:s, d-h, d-h:m, d-h:m:s) in whole minutes, rounded up."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time such as 1:30:00 (h:m:s), 90 (m) or 1-12 (d-h)")
    parts = [int(part) for part in match.group("first", "second", "third") if part is not None]
    if match["d"] is not None:
        hours, mins, secs = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, mins, secs = parts
    else:
        hours, (mins, secs) = 0, [*parts, 0][:2]
    total = math.ceil(((int(match["d"] or 0) * 24 + hours) * 60 + mins) + secs / 60)
    if total < 1:
        raise ValueError(f"{text!r} is no time at all: give at least a minute")
    return total


def _checked(text: str) -> str:
    minutes(text)
    return text


class Place(_Strict):
    """Where a job runs. exclusive: it has its nodes to itself; otherwise cpus and mem say which share it has."""

    partition: Word = ""
    account: Word = ""
    qos: Word = ""
    reservation: Word = ""
    constraint: Word = ""
    gres: Word = ""
    exclude: Word = ""
    exclusive: bool = True
    cpus: int | None = Field(default=None, ge=1)
    mem: Word = ""
    time: Annotated[str, AfterValidator(_checked)] | None = None

    @model_validator(mode="after")
    def _share(self) -> Place:
        if self.exclusive and self.cpus is not None and "exclusive" in self.model_fields_set:
            raise ValueError("cpus is for shared nodes: set exclusive = false, or leave cpus out")
        return self


class Bundle(_Strict):
    """How many tasks of a kind one job takes at most; they run there as a run on that machine would run them."""

    static: int = Field(default=32, ge=1)
    training: int = Field(default=8, ge=1)
    timing: int = Field(default=1, ge=1)


class Profile(Place):
    """All of ``[launch.slurm]``.

    requeue: a job that is preempted, or whose node fails, starts again; at_once: tasks that wait or run in the queue
    at a time; poll: seconds between two looks at the queue; grace: seconds that a file may take to be seen here after
    its job has ended (network file systems are slow to tell).
    """

    hardware: dict[Name, Place] = {}
    requeue: bool = True
    bundle: Bundle = Bundle()
    at_once: int = Field(default=1000, ge=1)
    poll: float = Field(default=15.0, gt=0)
    grace: float = Field(default=60.0, ge=0)
    setup: list[str] = []
    options: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], str | int | bool] = {}

    @model_validator(mode="after")
    def _one_line_each(self) -> Profile:
        if any(any(ord(sign) < 32 for sign in str(value)) for value in self.options.values()):
            raise ValueError("options: a value with a line break is no option of sbatch")
        for name, place in self.hardware.items():
            if self._place(place).cpus is not None and self._place(place).exclusive:
                raise ValueError(f"hardware.{name}: cpus is for shared nodes: set exclusive = false")
        return self

    @property
    def kinds(self) -> list[str]:
        """The kinds of hardware that tasks are measured on; one without a name where none is named."""
        return list(self.hardware) or [""]

    def place(self, hardware: str) -> Place:
        """Where a job for this kind of hardware runs: what the kind says, and else what all jobs share."""
        return self._place(self.hardware[hardware] if hardware else Place())

    def _place(self, own: Place) -> Place:
        shared = {key: getattr(self, key) for key in Place.model_fields if key in self.model_fields_set}
        said = {key: getattr(own, key) for key in own.model_fields_set}
        return Place.model_construct(set(shared) | set(said), **{**_DEFAULTS, **shared, **said})


_DEFAULTS = {name: field.default for name, field in Place.model_fields.items()}


class Launch(_Strict):
    """``[launch]`` of a sweep."""

    slurm: Profile | None = None

    @model_validator(mode="after")
    def _is_data(self) -> Launch:
        if self.slurm and (unsafe := [key for key in ("setup", "options") if getattr(self.slurm, key)]):
            raise ValueError(f"slurm.{unsafe[0]} is taken from a profile alone, since it can run commands: --profile")
        return self


class _File(_Strict):
    """A profile file; its launch table is the user's own, so nothing is kept from it."""

    class Table(_Strict):
        slurm: Profile

    format: Literal[1] = Field(alias="schema")
    launch: Table


def load(path: Path) -> Profile:
    """Read and check a profile file."""
    return tomlfile.read(path, _File, "profile", _keys_beside, "docs/cluster.md shows one").launch.slurm


def _keys_beside(loc: tomlfile.Where) -> list[str]:
    parents: dict[int | str, type[BaseModel]] = {
        "launch": _File.Table, "slurm": Profile, "hardware": Place, "bundle": Bundle,
    }  # fmt: skip
    model = next((parents[part] for part in reversed(loc[:-1]) if part in parents), _File)
    return [field.alias or name for name, field in model.model_fields.items()]


def job_minutes(place: Place, timeout: float, orders: int) -> int:
    """How long a job of so many tasks may last, each of which is killed after ``timeout`` s.

    What does not fit goes into another job, so it need not hold the worst case of every task; one must fit.
    """
    least = math.ceil(timeout / 60) + _STARTUP
    if place.time is None:
        return least + (math.ceil(timeout / 60) if orders > 1 else 0)
    given = minutes(place.time)
    if given < least:
        raise UsageError(
            f"[launch.slurm] time = {place.time!r} is too short: a task may take {timeout:g} s (protocol.timeout), "
            f"and a job {_STARTUP} minutes besides; give at least {least // 60}:{least % 60:02d}:00"
        )
    return given


def sbatch(profile: Profile, hardware: str, name: str, limit: int) -> dict[str, Any]:
    """The parameters, as submitit calls them, of an array of jobs that may last ``limit`` minutes each."""
    place = profile.place(hardware)
    more: dict[str, Any] = {"requeue" if profile.requeue else "no-requeue": True}
    more |= {key: value for key in ("reservation",) if (value := getattr(place, key))}
    wanted: dict[str, Any] = {
        "job_name": name,
        "time": limit,
        "nodes": 1,
        "ntasks_per_node": 1,
        "array_parallelism": profile.at_once,
        "setup": list(profile.setup) or None,
        "wckey": None,  # submitit would name one, which a cluster that checks them does not know
        **{key: value for key in ("partition", "account", "qos", "constraint", "gres", "exclude")
           if (value := getattr(place, key))},
    }  # fmt: skip
    if place.exclusive:
        # all memory too, which exclusive alone does not give; and no binding of the one process to one core
        wanted |= {"exclusive": True, "mem": place.mem or "0", "srun_args": ["--cpu-bind=none"]}
    else:
        wanted |= {"cpus_per_task": place.cpus} if place.cpus else {}
        wanted |= {"mem": place.mem} if place.mem else {}
    return {**wanted, "additional_parameters": {**more, **_options(profile.options)}}


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not False}
