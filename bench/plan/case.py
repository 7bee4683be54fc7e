"""Cases, the groups in which they are compared, and the tasks that measure them. Plain values; no torch.

A case is one point of a sweep by its factors; its id is a hash of them. Hardware is no factor: it is where a case
was measured, and comes from env.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar

Kind = Literal["timing", "static", "training"]
T = TypeVar("T")

CHUNK = 8  # callables that one process interleaves, the baseline included

# what makes cases comparable is everything but these
_NOT_IN_GROUP = ("algebra", "n", "path", "rank", "control", "memory_format", "twin", "options")


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def digest(value: Any) -> str:
    """Twelve hex digits that identify a JSON value."""
    return _hash(_canonical(value))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _once(Generic[T]):  # noqa: N801 - as cached_property is called
    """functools.cached_property without the lock that it takes at every first use before Python 3.12."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.__doc__ = compute, compute.__doc__

    def __get__(self, instance: Any, owner: type) -> T:
        value = instance.__dict__[self.compute.__name__] = self.compute(instance)
        return value


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

    @_once
    def factors(self) -> dict[str, Any]:
        """The factors as JSON values; twin and options where there are any."""
        beside = {"twin": self.twin, "options": dict(self.options)} if self.twin else {}
        own = {name: getattr(self, name) for name in FACTORS if name not in ("twin", "options")}
        return {**own, "shape": dict(self.shape), "recipe": dict(self.recipe), **beside}

    @_once
    def axes(self) -> dict[str, Any]:
        """All shape axes of the subject."""
        return {**dict(self.shape), **dict(self.options)}

    @_once
    def id(self) -> str:
        """Hash of the factors: ``digest(self.factors)``."""
        before, after = self._texts[0]
        return _hash(before + self._shape_text + after)

    @_once
    def group_id(self) -> str:
        """Hash of what all cases of the group share; the subject is that beside which it is measured."""
        before, after = self._texts[1]
        return _hash(before + self._shape_text + after)

    # ids are hashes of the JSON of all factors. Of a hundred thousand cases it is made of pieces that many share: the
    # text of the shape, and the texts around it

    @_once
    def _shape_text(self) -> str:
        return _pairs(self.shape, _types(self.shape))

    @_once
    def _texts(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return _around(_around_of(self))

    @_once
    def _parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Its values: those apart from the shape, and those of the shape, with its text."""
        form = {name: getattr(self, name) for name in ("shape", "options", "twin", "_shape_text")}
        return {name: getattr(self, name) for name in FACTORS if name not in form}, form

    def in_form_of(self, other: Case) -> Case:
        """This case in the shape of another, beside its twin and with its options.

        As dataclasses.replace, in a fifth of its time: a sweep makes a hundred thousand of a few hundred of both.
        """
        made = object.__new__(Case)
        made.__dict__.update(self._parts[0])
        made.__dict__.update(other._parts[1])
        if not (self.twin or other.twin):  # the texts are of the options too
            made.__dict__["_texts"] = self._texts
        return made

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
        if not factors.keys() <= _KNOWN:
            raise ValueError(f"a case has no factor {', '.join(sorted(set(factors) - _KNOWN))}")
        pairs = {key: _hashable(factors.get(key, {})) for key in ("shape", "recipe", "options")}
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


def _hashable(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Sorted, and hashable again: JSON made lists of tuples."""
    return tuple(sorted((key, tuple(v) if isinstance(v, list) else v) for key, v in values.items()))


FACTORS = tuple(field.name for field in fields(Case))
_KNOWN = frozenset(FACTORS)
_AROUND = tuple(name for name in sorted(FACTORS) if name != "shape")
_around_of = attrgetter(*_AROUND)


@cache
def _around(values: tuple[Any, ...]) -> tuple[tuple[str, str], tuple[str, str]]:
    """What stands before and after the shape in the JSON of a case's factors, and in that of its group."""
    factors = dict(zip(_AROUND, values, strict=True))
    factors["recipe"] = dict(factors["recipe"])
    options, twin = factors.pop("options"), factors.pop("twin")
    beside = {"twin": twin, "options": dict(options)} if twin else {}
    shared = {key: value for key, value in factors.items() if key not in _NOT_IN_GROUP}
    return _split({**factors, **beside}), _split({**shared, "subject": twin or factors["subject"]})


def _split(factors: Mapping[str, Any]) -> tuple[str, str]:
    before, after = _canonical({**factors, "shape": None}).split('"shape":null', 1)
    return before + '"shape":', after


@cache
def _pairs(pairs: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> str:
    # types: 1 and 1.0 and True are equal, and their texts are not
    return _canonical(dict(pairs))


def _types(pairs: tuple[tuple[str, Any], ...]) -> tuple[type, ...]:
    return tuple([type(value) for _, value in pairs])


@cache
def _sorted(names: tuple[str, ...]) -> str:
    return _canonical(sorted(names))


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

    @_once
    def chunk_id(self) -> str:
        """Hash of what is measured together: repetitions of one chunk are siblings."""
        ids = '","'.join([case.id for case in self.cases])
        settings = _canonical(self.settings) if self.settings else "[]"
        return _hash(f'["{self.kind}",["{ids}"],{_sorted(self.metrics)},{settings}]')

    @_once
    def id(self) -> str:
        """Hash of what is to be measured."""
        return _hash(f'["{self.chunk_id}",{self.repetition}]')


@dataclass(frozen=True)
class Planned:
    """A case of a sweep with the metrics wanted of it, or the reason why it is skipped.

    controlled: the case whose slim control this one is; priority: what is measured first where time is short, the
    greater the sooner.
    """

    case: Case
    metrics: frozenset[str]
    skipped: str | None = None
    controlled: Case | None = None
    priority: int = 0


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
    controlled = {p.case.id: p.controlled for p in live if p.controlled}
    made: list[Task] = []

    # as many calls as cases, of a few different answers each

    @cache
    def by_kind(metrics: frozenset[str], trained: bool) -> dict[str, frozenset[str]]:
        if trained:  # a training says itself what it trained; no other task looks at its case
            return {"static": frozenset(), "training": metrics, "timing": frozenset()}
        kinds = ("static", "training", "timing")
        return {kind: frozenset(m for m in metrics if metric_tasks[m] == kind) for kind in kinds}

    @cache
    def in_order(metrics: frozenset[str], checked: bool = False) -> tuple[str, ...]:
        # no time is published of an answer that was not checked, a baseline's neither
        return tuple(sorted(metrics | {"numeric_error"} if checked else metrics))

    wants = [by_kind(p.metrics, p.case.data != "none") for p in live]
    of_group: dict[str, frozenset[str]] = {}  # what one of its cases wants of a timing, all of them get
    for p, wanted in zip(live, wants, strict=True):
        if own := wanted["timing"]:
            known = of_group.setdefault(p.case.group_id, own)
            if not own <= known:
                of_group[p.case.group_id] = known | own
    timed = [
        p.case
        for p, wanted in zip(live, wants, strict=True)
        if wanted["timing"] or (p.case.is_baseline and p.case.group_id in of_group)
    ]
    checked = {case.id for case in timed}
    kind: Kind
    for kind in ("static", "training"):
        for p, wanted in zip(live, wants, strict=True):
            check = kind == "static" and p.case.id in checked
            if check or wanted[kind]:
                reference = (p.controlled,) if p.controlled else ()
                made.append(Task(kind, (p.case,), in_order(wanted[kind], check), controlled=reference))
    settings = tuple(sorted((timing_settings or {}).items()))
    for chunk in _chunks(timed):
        references = tuple(controlled[case.id] for case in chunk if case.id in controlled)
        wanted_by_group = in_order(of_group[chunk[0].group_id])
        siblings = [Task("timing", chunk, wanted_by_group, i, references, settings) for i in range(repetitions)]
        for task in siblings:  # the same of all, and not worth hashing again
            task.__dict__["chunk_id"] = siblings[0].chunk_id
        made += siblings
    return made


def _chunks(cases: Sequence[Case]) -> list[tuple[Case, ...]]:
    """Groups cut to CHUNK callables, each piece with the group's baselines in front."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group_id, []).append(case)
    chunks = []
    for members in groups.values():
        baselines: list[Case] = []
        others: list[Case] = []
        for case in members:
            (baselines if case.is_baseline else others).append(case)
        step = CHUNK - len(baselines)
        pieces = [others[i : i + step] for i in range(0, len(others), step)] or [[]]
        chunks += [tuple(baselines + piece) for piece in pieces]
    return chunks
