"""SLURM as we use it: arrays of commands through submitit, and what ``squeue`` and ``scancel`` do. No accounting."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import UsageError

# a job in one of these may still do its work, perhaps on another node
_ALIVE = {
    "PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
}  # fmt: skip
_PATIENCE = 60  # seconds that a command may take before the controller counts as silent
_AT_ONCE = 500  # jobs of one scancel: a command line is not endless


@dataclass(frozen=True)
class Place:
    """A job, by the name of its batch and its index in the array."""

    batch: str
    index: int


@dataclass(frozen=True)
class Seen:
    """What the queue says of a job."""

    job_id: str
    state: str
    nodes: str

    @property
    def alive(self) -> bool:
        return self.state in _ALIVE

    def __str__(self) -> str:
        return f"job {self.job_id}{f' on {self.nodes}' if self.nodes else ''} ended as {self.state}"


class RefusedError(Exception):
    """The cluster takes no such jobs, or none now; the text is what it said."""


class Cluster(Protocol):
    """What an engine needs of a cluster."""

    def check(self) -> None:
        """A UsageError if there is none."""

    def submit(self, folder: Path, commands: Sequence[Sequence[str]], parameters: Mapping[str, Any]) -> None:
        """Queue an array with a job for each command. Raises RefusedError."""

    def queue(self) -> Mapping[Place, Seen] | None:
        """The user's jobs, with those that ended within the last minutes; None if there is no answer."""

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs; one that has ended meanwhile is no error."""


class Submitit:
    """The cluster that the commands of this machine belong to."""

    def check(self) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise UsageError("--on slurm needs submitit: pip install 'phnn-bench[slurm]'") from None
        if lacking := [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]:
            raise UsageError(f"--on slurm needs SLURM's {lacking[0]}: start it on a login node of the cluster")

    def submit(self, folder: Path, commands: Sequence[Sequence[str]], parameters: Mapping[str, Any]) -> None:
        """folder: for the scripts, pickles and logs of submitit."""
        import submitit

        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(**parameters)
        try:
            with executor.batch():
                for command in commands:
                    executor.submit(submitit.helpers.CommandFunction(list(command), verbose=False))
        except (RuntimeError, OSError) as error:  # submitit's own errors are RuntimeErrors
            raise RefusedError(said_by_sbatch(str(error)) or type(error).__name__) from None

    def queue(self) -> dict[Place, Seen] | None:
        command = ["squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", "%F|%K|%T|%N|%j"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            return None
        return parse(done.stdout) if done.returncode == 0 else None

    def cancel(self, job_ids: Sequence[str]) -> None:
        for start in range(0, len(job_ids), _AT_ONCE):
            subprocess.run(["scancel", *job_ids[start : start + _AT_ONCE]], capture_output=True, timeout=_PATIENCE)


def parse(text: str) -> dict[Place, Seen]:
    """Lines of array|index|state|nodes|name. A job that is no array has no index: it is its batch's only one."""
    found = {}
    for line in text.splitlines():
        job, index, state, nodes, name = line.strip().split("|", 4)
        part = index.isdigit()
        found[Place(name, int(index) if part else 0)] = Seen(f"{job}_{index}" if part else job, state, nodes)
    return found


def said_by_sbatch(text: str) -> str:
    """What it said, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line.removeprefix("sbatch: error: ") for line in lines if line.startswith("sbatch: error:")]
    return " ".join(own) or (lines or [""])[-1]
