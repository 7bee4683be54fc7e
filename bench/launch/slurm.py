"""Orders as jobs of a SLURM cluster: arrays submitted through submitit, answers collected from the spool.

The parent keeps nothing in mind that a successor could not find: which orders a batch has is written down before it
is submitted, its jobs bear its name, and what they find out lies in the spool until it is stored. A parent that is
killed leaves its jobs running; the next one collects their answers, waits for those that still run, and submits the
rest.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..plan.case import Kind
from .cluster import Cluster, Place, RefusedError, Seen, Submitit
from .engine import Attempt, Order
from .processes import tail
from .profile import Profile, job_minutes, sbatch
from .spool import Answer, Asked, Spool

_ARRAY = 1000  # jobs of an array: SLURM's own default allows 1001
_ON_ITS_WAY = 60  # seconds within which a batch that the queue does not know may yet be submitted
_LEAVING = 10  # seconds that a job may take to end after its last answer
_ENDING = 60  # seconds that cancelled jobs are waited for: SLURM kills what does not end itself within 30
_TRIES = 3  # jobs that end by themselves without a single answer before it is called a mistake in the profile
_SAID = 500  # characters of a job's log that are quoted
_SUBMITS = 20  # times that sbatch is asked, a poll apart, once it has taken jobs of this run


@dataclass
class Slurm:
    """An engine (``bench.launch.engine``) over a cluster.

    folder: the run folder, which all nodes see under the same path; stored: the lines of its store; fresh: what an
    earlier run left is not taken; tell: shows a person a line. Each kind of hardware is one env: machines that differ
    are not to be compared, and repetitions that were shared out among them would be incomplete on each.
    """

    folder: Path
    profile: Profile
    stored: Iterable[Mapping[str, Any]] = ()
    fresh: bool = False
    tell: Callable[[str], None] = print
    cluster: Cluster = field(default_factory=Submitit)
    alone: frozenset[Kind] = frozenset()

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.spool = Spool(self.folder)
        self._open = False
        self._salt = uuid.uuid4().hex if self.fresh else ""
        self._waiting: dict[str, Order] = {}  # by key, in the order of submission
        self._unsent: dict[str, Asked] = {}  # of those, what is not in the queue yet
        self._places: dict[str, Place] = {}  # of what is in the queue, of earlier runs too
        self._sizes: Counter[Place] = Counter()  # orders of each job
        self._gone: dict[str, tuple[float, Seen | None]] = {}  # not in the queue any more: since when, what it said
        self._own: set[str] = set()  # batches that we sent, or took over from a run that was killed
        self._lost: set[str] = set()  # tasks that were lost before: each has a job of its own from then on
        self._given: list[str] = []  # handed out: in the store by the time that the next one is asked for
        self._stored: set[str] = set()
        self._envs: dict[str, str] = {}  # of each kind of hardware, as its answers say
        self._failed: dict[str, set[Place]] = defaultdict(set)
        self._looked = 0.0
        self._silent = False

    def __enter__(self) -> Slurm:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def width(self, kind: Kind) -> int:
        """As many as the profile lets wait or run at a time."""
        return self.profile.at_once

    # ------------------------------------------------------------------------------------------------ to the queue

    def submit(self, orders: Sequence[Order]) -> None:
        """Queue those that are neither answered nor in the queue since an earlier run."""
        if not self._open:
            self._inherit()
        answered = self.spool.answered()
        for order in orders:
            asked = Asked.of(order, self._salt)
            self._waiting[asked.key] = order
            if asked.key in answered:
                if self.spool.answer(asked.key).ending not in ("left", "refused"):
                    continue  # an earlier run's job has done it
                self.spool.drop(asked.key)
            if asked.key in self._places:
                self._own.add(self._places[asked.key].batch)
            else:
                self._unsent[asked.key] = asked
        self._send_some()

    def _send_some(self) -> None:
        """Submit what waits for that, once it is much or the queue is short: few arrays rather than many jobs."""
        half = self.profile.at_once // 2
        if not self._unsent or len(self._unsent) < half < len(self._waiting) - len(self._unsent):
            return
        arrays: dict[tuple[str, Kind], list[Asked]] = defaultdict(list)
        for asked in self._unsent.values():
            arrays[asked.hardware, asked.request.kind].append(asked)
        self._unsent.clear()
        for (hardware, kind), some in arrays.items():
            jobs = self._jobs(kind, some)
            for first in range(0, len(jobs), _ARRAY):
                self._send(hardware, jobs[first : first + _ARRAY])

    def _jobs(self, kind: Kind, orders: Sequence[Asked]) -> list[list[Asked]]:
        """Orders as the jobs that will do them; one that ended badly before is alone, to be told from its fellows."""
        alone: list[Asked] = []
        others: list[Asked] = []
        for asked in orders:
            (alone if asked.attempt > 1 or asked.task_id in self._lost else others).append(asked)
        size = getattr(self.profile.bundle, kind)
        return [others[i : i + size] for i in range(0, len(others), size)] + [[asked] for asked in alone]

    def _send(self, hardware: str, jobs: Sequence[Sequence[Asked]]) -> None:
        """Submit an array of jobs."""
        timeout = max(asked.request.protocol.timeout for orders in jobs for asked in orders)
        limit = job_minutes(self.profile.place(hardware), timeout, max(map(len, jobs)))

        def commands(batch: str) -> list[list[str]]:
            task = [sys.executable, "-m", "bench.launch.task", str(self.folder), batch]
            return [[*task, str(index)] for index in range(len(jobs))]

        for tried in range(1, _SUBMITS + 1):
            name = f"bench_{uuid.uuid4().hex[:12]}"
            folder = self.spool.put_batch(name, time.time(), limit, jobs)
            self._note(name, [[asked.key for asked in orders] for orders in jobs])
            try:
                self.cluster.submit(folder, commands(name), sbatch(self.profile, hardware, name, limit))
            except RefusedError as error:
                self.spool.drop_batch(name)
                if not self._own or tried == _SUBMITS:
                    raise UsageError(f"sbatch takes no jobs{_of(hardware)}: {error}; see [launch.slurm]") from None
                self.tell(f"sbatch takes no jobs{_of(hardware)} now ({error}); it is asked again")
                time.sleep(self.profile.poll)
            else:
                break
        self._own.add(name)
        self._looked = time.monotonic()

    def _note(self, batch: str, jobs: Sequence[Sequence[str]]) -> None:
        for index, keys in enumerate(jobs):
            self._places |= dict.fromkeys(keys, Place(batch, index))
            self._sizes[Place(batch, index)] = len(keys)

    # --------------------------------------------------------------------------------------------------- and back

    def next(self) -> Attempt:
        """Wait until an order has ended. What was handed out before is taken to be in the store."""
        if not self._waiting:
            raise RuntimeError("no order is under way")
        self._forget()
        while True:
            self._send_some()
            have = self.spool.answered()
            for key in [key for key in self._waiting if key in have]:
                if attempt := self._ended(key, self.spool.answer(key)):
                    return attempt
            if time.monotonic() - self._looked >= self.profile.poll:
                self._look()
            for key, (since, job) in self._gone.items():
                if time.monotonic() - since >= self.profile.grace:  # longer than a file takes to appear
                    return self._vanished(key, job)
            time.sleep(min(1.0, self.profile.poll))

    def _ended(self, key: str, answer: Answer) -> Attempt | None:
        """The attempt that an answer tells of; None if its job had no time for it, and it is queued again."""
        order = self._pop(key)
        if answer.ending == "refused":
            self.spool.drop(key)
            raise UsageError(f"{answer.host}{_of(order.hardware)} measures nothing: {answer.said}")
        if answer.ending == "left":
            self.submit([order])
            return None
        self._check_env(order.hardware, answer)
        self._failed.pop(order.hardware, None)
        self._given.append(key)
        return Attempt(
            order=order, env_id=answer.env_id, ending=answer.ending, started=answer.started, wall=answer.wall,
            reply=answer.reply, code=answer.code, crumb=answer.crumb, oom_kills=answer.oom_kills,
            log=Path(answer.log), said=answer.said,
        )  # fmt: skip

    def _check_env(self, hardware: str, answer: Answer) -> None:
        known = self._envs.setdefault(hardware, answer.env_id)
        if answer.env_id != known:
            raise UsageError(
                f"{answer.host}{_of(hardware)} is {answer.env_id}, but others were {known}: name one kind of machine "
                "(constraint or exclude in [launch.slurm]), each other one as a hardware of its own, or choose --out"
            )

    def _look(self) -> None:
        """Ask the queue for the jobs of all that is waited for."""
        seen = self.cluster.queue()
        self._looked = time.monotonic()
        if seen is None and not self._silent:
            self.tell("squeue does not answer; what runs goes on, and is waited for")
        self._silent = seen is None
        if seen is None:
            return
        for key in self._waiting.keys() - self._unsent.keys():
            place = self._places.get(key)
            job = seen.get(place) if place else None
            if job and job.alive:
                self._gone.pop(key, None)
            else:
                self._gone.setdefault(key, (self._looked, job))

    def _vanished(self, key: str, job: Seen | None) -> Attempt:
        """The attempt of an order whose job is not in the queue any more, and left no answer."""
        place = self._places[key]
        order = self._pop(key)
        self._lost.add(order.task_id)
        folder = self.spool.folder / place.batch
        log = folder / f"{job.job_id}_0_log.err" if job else folder
        said = "; ".join(
            filter(None, [str(job) if job else "its job is not in the queue any more", tail(log)[-_SAID:]])
        )
        state = job.state if job else ""
        if state in ("FAILED", "COMPLETED"):
            self._count_failure(order.hardware, place, f"{said}; see {log}")
        # a job that is killed for want of memory tells of its task only if it has no other
        oom = state == "OUT_OF_MEMORY" and self._sizes[place] == 1
        return Attempt(
            order=order, env_id=self._envs.get(order.hardware, "unknown"), ending="died" if oom else "lost",
            started=datetime.now(UTC).isoformat(timespec="microseconds"), wall=0.0, code=-9 if oom else None,
            oom_kills=int(oom), log=log, said=said,
        )  # fmt: skip

    def _count_failure(self, hardware: str, place: Place, said: str) -> None:
        """Jobs that end by themselves and never answer do not fit the cluster: submitting more would not help."""
        self._failed[hardware].add(place)
        if len(self._failed[hardware]) >= _TRIES and hardware not in self._envs:
            raise UsageError(f"the jobs{_of(hardware)} end before they measure anything: {said}")

    def _pop(self, key: str) -> Order:
        self._gone.pop(key, None)
        self._places.pop(key, None)
        return self._waiting.pop(key)

    def _forget(self) -> None:
        for key in self._given:
            self.spool.drop(key)
        self._stored.update(self._given)
        self._given.clear()

    # ------------------------------------------------------------------------------------ what was, and the end

    def _inherit(self) -> None:
        """What an earlier run left: answers that are stored go, jobs that run are known, ended batches go."""
        self.cluster.check()
        self.spool.open()
        self._open = True
        seen = self.cluster.queue()
        if seen is None:
            raise UsageError("squeue does not answer: is this the login node of a cluster that is up?")
        stored = set()
        for line in self.stored:
            stored.add((line["task_id"], line["started"]))
            if not self.fresh and line["wall"]:  # none: nothing was run for it
                self._envs[line.get("hardware", "")] = line["env_id"]
        for key in self.spool.answered() if stored else ():
            answer = self.spool.answer(key)
            if (answer.task_id, answer.started) in stored:
                self.spool.drop(key)
        for name, batch in list(self.spool.batches()):
            known = {place.index: job for place, job in seen.items() if place.batch == name}
            on_its_way = not known and time.time() - batch.made < _ON_ITS_WAY
            if on_its_way or any(job.alive for job in known.values()):
                running = {index for index, job in known.items() if job.alive}
                self._note(name, [keys if on_its_way or i in running else [] for i, keys in enumerate(batch.jobs)])
            else:
                self.spool.drop_batch(name)

    def stop(self) -> None:
        """Cancel the jobs of all that is waited for, and wait until nothing of this run is in the queue."""
        if not self._open:
            return
        self._forget()
        wanted = {self._places[key].batch for key in self._waiting if key in self._places}
        self._waiting.clear()
        self._unsent.clear()
        if self._leave(wanted, self._own):
            for name in self._own:
                self.spool.drop_batch(name)
        for key in self.spool.answered() & self._stored:  # a job that answered, and was started again all the same
            self.spool.drop(key)

    def _leave(self, wanted: set[str], batches: set[str]) -> bool:
        """Whether no job of these batches is left. Those of ``wanted`` are cancelled; others, if they do not end."""
        begun, cancelled = time.monotonic(), set[str]()
        while batches and time.monotonic() < begun + _ENDING:
            seen = self.cluster.queue()
            if seen is not None:
                alive = {place: job for place, job in seen.items() if place.batch in batches and job.alive}
                if not alive:
                    return True
                late = time.monotonic() > begun + _LEAVING
                unwanted = {
                    job.job_id
                    for place, job in alive.items()
                    if late or place.batch in wanted or job.state not in ("RUNNING", "COMPLETING")
                } - cancelled
                self.cluster.cancel(sorted(unwanted))
                cancelled |= unwanted
            time.sleep(min(1.0, self.profile.poll))
        if batches:
            self.tell(f"jobs may still be ending: squeue --name={','.join(sorted(batches))} shows them")
        return not batches


def _of(hardware: str) -> str:
    return f" for hardware {hardware!r}" if hardware else ""
