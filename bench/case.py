"""Cases, the groups in which they are compared, and the tasks that measure them. Plain values; no torch.

A case is one point of a sweep by its factors; its id is a hash of them. Hardware is no factor: it is where a case
was measured, and comes from env.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

Kind = Literal["timing", "static", "training"]

CHUNK = 8  # callables that one process interleaves, the baseline included

# what makes cases comparable is everything but these
_NOT_IN_GROUP = ("algebra", "n", "path", "rank", "control", "memory_format", "twin", "options")


def digest(value: Any) -> str:
    """Twelve hex digits that identify a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Case:
    """One point of a sweep. A factor that the subject does not take has its default, whatever the sweep said.

    algebra: ``none`` of a subject that takes none; twin: the subject whose group the case joins, for one that is
    measured beside another; options: those of its shape axes that its twin has not.
    """

    subject: str
    kind: str  # layer | model
    algebra: str
    n: int
    shape: tuple[tuple[str, Any], ...]
    phase: str = "infer"
    timer: str = "host_warm"
    compile: str = "none"
    dtype: str = "float32"
    precision: str = "none"
    path: str = "auto"
    rank: int = 0  # of a learned rule that is parametrised by its factors; 0: by A itself
    threads: int = 0  # 0: all physical cores
    memory_format: str = "contiguous"
    control: str = "none"  # none | slim:<case id>
    data: str = "none"
    recipe: tuple[tuple[str, Any], ...] = ()
    seed: int = 0
    twin: str = ""
    options: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def factors(self) -> dict[str, Any]:
        """The factors as JSON values; twin and options where there are any."""
        beside = {"twin": self.twin, "options": dict(self.options)} if self.twin else {}
        own = {key: value for key, value in asdict(self).items() if key not in ("twin", "options")}
        return {**own, "shape": dict(self.shape), "recipe": dict(self.recipe), **beside}

    @cached_property
    def axes(self) -> dict[str, Any]:
        """All shape axes of the subject."""
        return {**dict(self.shape), **dict(self.options)}

    @cached_property
    def id(self) -> str:
        """Hash of the factors."""
        return digest(self.factors)

    @cached_property
    def group_id(self) -> str:
        """Hash of what all cases of the group share."""
        shared = {key: value for key, value in self.factors.items() if key not in _NOT_IN_GROUP}
        return digest({**shared, "subject": self.twin or self.subject})

    @property
    def is_baseline(self) -> bool:
        """The real layer or model of the same width, in any memory format: the fastest is what others are held to."""
        return self.algebra == "real" and self.control == "none" and not self.twin

    @property
    def name(self) -> str:
        """A path-like name for people: subject/variant/shape/phase."""
        shape = ",".join(f"{key}={value}" for key, value in self.axes.items() if value is not None)
        variant = self.algebra if self.algebra != "ph" else f"ph n={self.n}"
        variant += f" rank={self.rank}" if self.rank else ""
        variant += "" if self.path in ("auto", "none") else f" {self.path}"
        variant = variant if self.control == "none" else f"slim real ({self.control.removeprefix('slim:')})"
        unusual = zip((self.timer, self.compile, self.precision), ("host_warm", "none", "none"), strict=True)
        run = " ".join([self.phase, *(value for value, usual in unusual if value != usual)])
        run = run if self.data == "none" else f"{self.data} seed={self.seed}"
        return "/".join([self.subject, *([] if self.algebra == "none" else [variant]), shape, run])

    @classmethod
    def from_factors(cls, factors: Mapping[str, Any]) -> Case:
        """The case that ``factors`` describes; the inverse of ``factors``."""
        known = {field.name for field in fields(cls)}
        if unknown := set(factors) - known:
            raise ValueError(f"a case has no factor {', '.join(sorted(unknown))}")
        pairs = {key: tuple(sorted(factors.get(key, {}).items())) for key in ("shape", "recipe", "options")}
        return cls(**{**factors, **pairs})

    def slim_control(self) -> Case:
        """The real net whose widths are scaled to this case's parameter count (the worker finds the scale).

        Paths compute the same function of the same parameters, so they share one control.
        """
        return replace(self.real_twin, control=f"slim:{self.controlled.id}")

    @property
    def real_twin(self) -> Case:
        """The real layer or model of the same shape."""
        subject = self.twin or self.subject
        return replace(self, subject=subject, twin="", options=(), algebra="real", n=1, path="none", rank=0)

    @property
    def controlled(self) -> Case:
        """This case as its slim control knows it: on the default path."""
        return replace(self, path="auto")


FACTORS = tuple(field.name for field in fields(Case))


@dataclass(frozen=True)
class Task:
    """What one fresh process does: the unit of launch, resume and loss.

    kind: ``timing`` (one chunk of a group, one repetition), ``static`` (one case) or ``training`` (one case, one
    seed); controlled: the cases whose slim controls are among ``cases``.
    """

    kind: Kind
    cases: tuple[Case, ...]
    metrics: tuple[str, ...]
    repetition: int = 0
    controlled: tuple[Case, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()  # of the protocol, where they bear on the figure

    @cached_property
    def chunk_id(self) -> str:
        """Hash of what is measured together: repetitions of one chunk are siblings."""
        return digest([self.kind, [case.id for case in self.cases], sorted(self.metrics), self.settings])

    @cached_property
    def id(self) -> str:
        """Hash of what is to be measured."""
        return digest([self.chunk_id, self.repetition])


@dataclass(frozen=True)
class Planned:
    """A case of a sweep with the metrics wanted of it, or the reason why it is skipped.

    controlled: the case whose slim control this one is.
    """

    case: Case
    metrics: frozenset[str]
    skipped: str | None = None
    controlled: Case | None = None


def tasks(
    planned: Sequence[Planned],
    repetitions: int,
    metric_tasks: Mapping[str, str],
    timing_settings: Mapping[str, Any] | None = None,
) -> list[Task]:
    """The tasks that measure ``planned``; metric_tasks: metric → kind of task.

    Static first (cheap, and they find what is broken), then training, then timing, baselines in every chunk, whether
    or not their own latency is wanted. timing_settings: what of the protocol makes a timing another one.
    """
    live = [p for p in planned if p.skipped is None]
    check = "numeric_error"  # no time is published of an answer that was not checked, a baseline's neither
    controlled = {p.case.id: p.controlled for p in live if p.controlled}
    made: list[Task] = []

    def wanted_of(p: Planned, kind: str) -> tuple[str, ...]:
        # a training says itself what it trained; no other task looks at its case
        if p.case.data != "none":
            return tuple(sorted(p.metrics)) if kind == "training" else ()
        return tuple(sorted(m for m in p.metrics if metric_tasks[m] == kind))

    timed = [p for p in live if wanted_of(p, "timing")]
    timing_metrics: dict[str, set[str]] = {}  # of a group: what one of its cases wants, all of them get
    for p in timed:
        timing_metrics.setdefault(p.case.group_id, set()).update(wanted_of(p, "timing"))
    timed = [p for p in live if p in timed or (p.case.is_baseline and p.case.group_id in timing_metrics)]
    checked = {p.case.id for p in timed}
    kind: Kind
    for kind in ("static", "training"):
        for p in live:
            wanted = set(wanted_of(p, kind)) | ({check} if kind == "static" and p.case.id in checked else set())
            if wanted:
                reference = (p.controlled,) if p.controlled else ()
                made.append(Task(kind, (p.case,), tuple(sorted(wanted)), controlled=reference))
    settings = tuple(sorted((timing_settings or {}).items()))
    for chunk in _chunks([p.case for p in timed]):
        references = tuple(controlled[case.id] for case in chunk if case.id in controlled)
        wanted_by_group = tuple(sorted(timing_metrics[chunk[0].group_id]))
        made += [
            Task("timing", chunk, wanted_by_group, repetition, references, settings)
            for repetition in range(repetitions)
        ]
    return made


def _chunks(cases: Sequence[Case]) -> list[tuple[Case, ...]]:
    """Groups cut to CHUNK callables, each piece with the group's baselines in front."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group_id, []).append(case)
    chunks = []
    for members in groups.values():
        baselines = [case for case in members if case.is_baseline]
        others = [case for case in members if not case.is_baseline]
        step = CHUNK - len(baselines)
        pieces = [others[i : i + step] for i in range(0, len(others), step)] or [[]]
        chunks += [tuple(baselines + piece) for piece in pieces]
    return chunks
