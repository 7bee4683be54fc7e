"""Running a sweep: a queue of tasks, what an engine makes of them, what is tried again. Measures nothing itself."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

from phnn.registry import origin

from ..launch.engine import Attempt, Engine, Order
from ..machine import env
from ..metrics import METRICS
from ..plan.case import Kind, Planned, Task, tasks
from ..plan.sweep import Sweep
from ..store.folder import Store
from ..study import checkpoints
from ..task import protocol
from ..task.protocol import Result
from ..uncollected import uncollected
from . import estimate, outcome, resume
from .progress import Progress
from .resume import Known, Place, Policy

_CLAIMS = 1000  # tasks that are claimed and submitted at once, where an engine takes so many


@dataclass(frozen=True)
class Options:
    """What a run is asked for besides its sweep.

    stop_on_error: start no task after one in which a case failed or was wrong; budget: seconds, None: as long as it
    takes; places: where everything is measured (a kind of hardware each); track: who follows the trainings.
    """

    places: tuple[Place, ...]
    policy: Policy = field(default_factory=Policy)
    stop_on_error: bool = False
    budget: float | None = None
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    track: str | None = None


@dataclass(frozen=True)
class Summary:
    """What a run did with its tasks.

    measured: now; resumed: found done; failed: of the measured ones, with a case that failed; failed_before: of
    those found done; skipped: did not fit into the budget; elsewhere: another run has or had them; stopped: left
    because of an error.
    """

    measured: int
    resumed: int
    failed: int
    failed_before: int = 0
    skipped: int = 0
    elsewhere: int = 0
    stopped: int = 0


@dataclass
class Job:
    """A task that is not done: where it is to be measured, and what is known of it so far."""

    task: Task
    place: Place

    @cached_property
    def state(self) -> outcome.State:
        """What its attempts have come to; as long as there is none, nothing is kept of a hundred thousand jobs."""
        return outcome.begin(self.task.cases)

    @property
    def key(self) -> tuple[str, str]:
        return self.task.id, self.place.hardware

    @property
    def chunk(self) -> tuple[str, str]:
        """What is measured together, on one kind of machine."""
        return self.task.chunk_id, self.place.hardware


@dataclass(frozen=True)
class Plan:
    """What a run will do: the jobs in their order, how many tasks are done already, and what does not fit.

    failed: of those that are done, the ones with a case that failed; known: (chunk, hardware) → cases that took their
    process in another repetition; told: (task, hardware) of which the store says something already; envs: hardware →
    the machine that it is, as far as that is known before a job runs there.
    """

    jobs: list[Job]
    done: int
    failed: int
    unfit: list[Job]
    pace: estimate.Pace
    known: dict[tuple[str, str], Known]
    told: set[tuple[str, str]]
    envs: dict[str, str]

    @property
    def seconds(self) -> float:
        """How long the jobs will take: as long at least as one of each kind."""
        kinds = {job.task.kind for job in self.jobs}
        return max(self.pace.total([job.task for job in self.jobs]), self.pace.left(dict.fromkeys(kinds, 1)))


def plan_lines(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """Planned cases as lines of the store."""
    return [
        {
            "case": p.case.factors,
            "metrics": sorted(p.metrics),
            "skipped": p.skipped,
            "controlled": p.controlled.factors if p.controlled else None,
        }
        for p in planned
    ]


@uncollected()
def plan(
    sweep: Sweep, planned: Sequence[Planned], lines: Sequence[Mapping[str, Any]], engine: Engine, options: Options
) -> Plan:
    """What is still to be measured of ``planned``, given what the store holds."""
    keep = not (options.policy.retry_failed or options.policy.fresh)
    settings = sweep.protocol.of_timing
    kinds = {name: metric.task for name, metric in METRICS.items()}
    priority = {p.case.id: p.priority for p in planned if p.priority}
    wanted = tasks(planned, sweep.protocol.processes, kinds, settings)
    if priority or options.budget is not None:
        wanted = estimate.ordered(wanted, priority)
    pace = estimate.Pace(sweep.protocol, engine.width)
    if lines:
        pace.learn_from(lines, wanted)
    jobs: list[Job] = []
    unfit: list[Job] = []
    done = failed = 0
    known: dict[tuple[str, str], Known] = {}
    told: set[tuple[str, str]] = set()
    envs: dict[str, str] = {}
    for place in options.places:
        if env_id := place.env_id or resume.measured_on(lines, place):
            envs[place.hardware] = env_id
        found = resume.left(wanted, lines, revision, place, options.policy)
        left, done, failed = found.tasks, done + len(wanted) - len(found.tasks), failed + found.failed
        told |= {(task_id, place.hardware) for task_id in found.told}
        culprits = resume.culprits(lines, place) if keep else {}
        for task in left if culprits else ():
            if of_chunk := culprits.get((task.chunk_id, revision(task))):
                known[task.chunk_id, place.hardware] = of_chunk
        late: list[Task] = []
        if options.budget is not None:
            left, late = estimate.fitting(left, options.budget, priority, pace)
        jobs += [Job(task, place) for task in left]
        unfit += [Job(task, place) for task in late]
    return Plan(jobs, done, failed, unfit, pace, known, told, envs)


def revision(task: Task) -> str:
    """The code that measures a task, other packages' layers included."""
    if len(task.cases) == 1:
        return env.code_rev(_modules(task.cases[0].subject), task.kind == "training")
    modules = {module for case in task.cases for module in _modules(case.subject)}
    return env.code_rev(tuple(sorted(modules)), task.kind == "training")


@cache
def _modules(subject: str) -> tuple[str, ...]:
    """The top module of a subject that another package offers; none for our own."""
    module = origin(subject).module
    return () if module == "phnn" else (module,)


@dataclass
class _Run:
    """One run: what is queued, what runs, and what became of the rest."""

    sweep: Sweep
    store: Store
    progress: Progress
    engine: Engine
    options: Options
    plan: Plan
    clock: Callable[[], float]
    queue: deque[Job] = field(default_factory=deque)
    running: dict[tuple[str, str], Job] = field(default_factory=dict)
    elsewhere: list[Job] = field(default_factory=list)
    siblings: Counter[tuple[str, str]] = field(default_factory=Counter)  # chunk, hardware → tasks that are queued
    measured: int = 0
    failed: int = 0
    skipped: int = 0
    left: Counter[Kind] = field(default_factory=Counter)  # jobs that are not finished
    stopping: bool = False

    def go(self) -> Summary:
        """Do all jobs; every finished one is in the store before anything that waited for it starts."""
        self.begun = self.clock()
        self.left = Counter(job.task.kind for job in [*self.plan.jobs, *self.plan.unfit])
        self._serve(self.plan.jobs)
        # what another run had in its hands: it may have died since
        again, self.elsewhere = self.elsewhere, []
        self._serve(again)
        for job in self._claimed(self.plan.unfit):
            self._skip(job)
        return Summary(
            measured=self.measured,
            resumed=self.plan.done,
            failed=self.failed,
            failed_before=self.plan.failed,
            skipped=self.skipped,
            elsewhere=len(self.elsewhere),
            stopped=len(self.queue),
        )

    def _serve(self, jobs: Iterable[Job]) -> None:
        self.queue.extend(jobs)
        self.siblings = Counter(job.chunk for job in self.queue)
        while True:
            self._fill()
            if not self.running:
                return
            self._take(self.engine.next())

    def _fill(self) -> None:
        """Submit as many jobs as the engine takes now."""
        while not self.stopping and self.queue:
            batch: list[Job] = []
            while self.queue and len(batch) < _CLAIMS and self._may_start(self.queue[0], batch):
                batch.append(self.queue.popleft())
            if not batch:
                return
            batch = [job for job in self._claimed(batch) if not (self._too_late(job) or self._is_known(job))]
            self.running |= {job.key: job for job in batch}
            for job in batch:
                self.progress.begin(job.task, job.state.attempts + 1, job.place.hardware)
            if batch:
                self.engine.submit([self._order(job) for job in batch])

    def _may_start(self, job: Job, batch: Sequence[Job]) -> bool:
        beside = [*self.running.values(), *batch] if self.engine.alone else []
        if any(self._needs_all(other) for other in beside):
            return False
        if self._needs_all(job):
            return not beside
        return len(self.running) + len(batch) < self.engine.width(job.task.kind)

    def _needs_all(self, job: Job) -> bool:
        """Timing; what died beside others, perhaps because of them; a training of several processes."""
        several = job.task.kind == "training" and dict(job.task.cases[0].recipe).get("devices", 1) > 1
        return bool(self.engine.alone) and (
            job.task.kind in self.engine.alone or len(job.state.deaths) > 0 or several
        )

    def _claimed(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that no other run has; one that was begun is ours already."""
        new: dict[str, list[str]] = defaultdict(list)
        for job in jobs:
            if not job.state.attempts:
                new[job.place.name].append(job.task.id)
        ours = {(id_, place) for place, ids in new.items() for id_ in self.store.claim(ids, place)}
        mine = [job for job in jobs if job.state.attempts or (job.task.id, job.place.name) in ours]
        self.elsewhere += [
            job for job in jobs if not job.state.attempts and (job.task.id, job.place.name) not in ours
        ]
        return mine

    def _too_late(self, job: Job) -> bool:
        """Whether a job no longer fits into the budget, with all that are left of its chunk."""
        if self.options.budget is None or job.state.attempts:
            return False
        siblings = self.siblings[job.chunk]
        self.siblings[job.chunk] -= 1
        if self.clock() - self.begun + siblings * self.plan.pace.seconds(job.task) <= self.options.budget:
            return False
        self._skip(job)
        return True

    def _is_known(self, job: Job) -> bool:
        """Leave out what took the process of another repetition; whether nothing is left to be measured then."""
        known = self.plan.known.get(job.chunk)
        if known is None or job.state.attempts:
            return False
        job.state = outcome.begin(job.task.cases, list(known.results.values()))
        if job.state.left:
            return False
        self._finish(job, {"env_id": known.env_id, "started": _now(), "wall": 0.0})
        return True

    def _order(self, job: Job) -> Order:
        request = protocol.Request.of(
            job.task, self.sweep.device, _threads(job.task, job.place), self.sweep.protocol, self.options.data_root,
            job.state.cases, self.options.plugins, self._training(job),
        )  # fmt: skip
        return Order(job.task.id, job.state.attempts + 1, request, job.place.hardware)

    def _training(self, job: Job) -> protocol.Training | None:
        """Where a training keeps its checkpoints, of this code alone: another's weights are not gone on with."""
        if job.task.kind != "training":
            return None
        if self.options.policy.fresh and not job.state.attempts:
            checkpoints.discard(self.store.folder, job.task.id, job.place.name)
        folder = checkpoints.folder_of(self.store.folder, job.task.id, revision(job.task), job.place.name)
        tracks = self.store.folder.resolve() / "tracks"
        return protocol.Training(checkpoints=str(folder), track=self.options.track, tracks=str(tracks))

    def _take(self, attempt: Attempt) -> None:
        """What an attempt means: the job is finished, or goes on at the head of the queue."""
        job = self.running.pop((attempt.order.task_id, attempt.order.hardware))
        job.state = outcome.after(job.state, attempt)
        if attempt.reply is not None:
            self.plan.envs[job.place.hardware] = attempt.env_id
        if job.state.left:
            self.queue.appendleft(job)
            reason = job.state.said[-1] if attempt.reply is None else "one of its cases raised"
            self.progress.again(job.task, reason, job.place.hardware)
            return
        if job.task.kind == "timing" and (found := outcome.culprits(job.state)):
            known = self.plan.known.setdefault(job.chunk, Known(attempt.env_id, {}))
            known.results.update({result.case_id: result for result in found})
        self.plan.pace.learn(job.task.kind, estimate.subject_of(job.task), job.task.chunk_id, attempt.wall)
        self._finish(job, {"env_id": attempt.env_id, "started": attempt.started, "wall": attempt.wall})

    def _finish(self, job: Job, when: Mapping[str, Any]) -> None:
        line = {**self._line(job), **when}
        self.store.add_task(line, job.place.name)
        if job.task.kind == "training" and all(r["status"] not in ("timeout", "crashed") for r in line["results"]):
            # else bench run --retry-failed goes on where this one ended
            checkpoints.discard(self.store.folder, job.task.id, job.place.name)
        self.measured += 1
        self.left[job.task.kind] -= 1
        self.failed += bool(resume.failed(line))
        self.stopping |= self.options.stop_on_error and resume.is_bad(line)
        self.progress.end(job.task, line, self.plan.pace.left(self.left))

    def _skip(self, job: Job) -> None:
        """Say in the store that there was no time for a task, once; it stays to be measured."""
        assert self.options.budget is not None
        self.left[job.task.kind] -= 1
        self.skipped += 1
        reason = f"budget: it did not fit into {estimate.spoken(self.options.budget)}; bench run goes on without one"
        self.progress.skip(job.task, reason, job.place.hardware)
        env_id = self.plan.envs.get(job.place.hardware)
        if env_id is None or job.key in self.plan.told:
            self.store.release([job.task.id], job.place.name)
            return
        results = [Result(case_id=case.id, status="skipped", reason=reason) for case in job.task.cases]
        job.state = replace(job.state, found=tuple(results))
        line = {**self._line(job), "env_id": env_id, "started": _now(), "wall": 0.0}
        self.store.add_task(line, job.place.name)

    def _line(self, job: Job) -> dict[str, Any]:
        """A job as a line of the store, but for where and when."""
        task, place = job.task, {case.id: place for place, case in enumerate(job.task.cases)}
        results = sorted(job.state.found, key=lambda result: (result.part, place[result.case_id]))
        return {
            "code_rev": revision(task),
            "protocol_version": protocol.VERSION,
            "task_id": task.id,
            "chunk_id": task.chunk_id,
            "kind": task.kind,
            "repetition": task.repetition,
            "siblings": self.sweep.protocol.processes if task.kind == "timing" else 1,
            "attempts": job.state.attempts,
            **({"hardware": job.place.hardware} if job.place.hardware else {}),
            **({"said": list(job.state.said)} if job.state.said else {}),
            "results": [result.model_dump() for result in results],
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _threads(task: Task, place: Place) -> int:
    """All physical cores for what is timed, unless its cases ask for a number; one for what shares the machine.

    0: all of whatever machine it will be.
    """
    if task.kind != "timing":
        return 1
    return task.cases[0].threads or (env.identity("cpu")["cores"] if place.env_id else 0)


def run(
    sweep: Sweep,
    planned: Sequence[Planned],
    store: Store,
    progress: Progress,
    engine: Engine,
    options: Options,
    clock: Callable[[], float] = time.monotonic,
) -> Summary:
    """Measure what the store does not hold yet. The engine is the caller's, who ends it."""
    store.add_plan(plan_lines(planned))
    made = plan(sweep, planned, store.tasks(), engine, options)
    progress.start(len(made.jobs) + len(made.unfit) + made.done, made.done, made.seconds)
    return _Run(sweep, store, progress, engine, options, made, clock).go()
