"""A sweep multiplied out into its cases. No torch.

Whatever is wrong in an axis is a UsageError of one line that names the key and what it may be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from phnn.algebras import Algebra, near_matches
from phnn.algebras import algebra as find_algebra
from phnn.rank import generic_rank
from phnn.registry import Spec, find, origin

from ..errors import UsageError
from ..metrics import METRICS, of_task
from ..study import catalog
from ..study.catalog import DATA
from ..study.recipe import Recipe
from ..uncollected import uncollected
from .case import Case, Planned
from .factors import FACTOR_VALUES, unfit
from .sweep import Entry, Sweep

LARGEST = 2**31  # of any number in an axis: no tensor has such a side
MOST_CASES = 1_000_000  # combinations in an entry: more is a mistake, and would fill the memory before it is seen
_OTHER_AXES = ("algebra", "n", "rank", "threads", "seed")


@uncollected()
def expand(sweep: Sweep, data: str | None = None) -> list[Planned]:
    """All cases of a sweep, each once, skipped ones with the reason; ``data`` replaces every entry's data axis.

    numeric_error is added to whatever is timed. Raises UsageError for what is no sweep.
    """
    planned: dict[str, Planned] = {}
    for index, entry in enumerate(sweep.cases):
        where = f"cases[{index}]"
        for name in entry.metrics:
            if name not in METRICS:
                raise UsageError(f"{where}.metrics: unknown metric {name!r}{near_matches(name, list(METRICS))}")
        for subject in [entry.subject] if isinstance(entry.subject, str) else entry.subject:
            try:
                spec = find(subject)
            except ValueError as error:
                raise UsageError(f"{where}.subject: {error}") from None
            for new in _entry_cases(entry, spec, where, data, sweep.device):
                old = planned.get(new.case.id)
                planned[new.case.id] = _joined(old, new) if old else new
    if data and not any(p.case.data != "none" for p in planned.values()):
        raise UsageError(f"--data {data}: sweep {sweep.name!r} trains nothing; leave --data out")
    if not planned:
        raise UsageError(f"sweep {sweep.name!r} expands to no case: an axis is empty; give it at least one value")
    return list(planned.values())


def _joined(old: Planned, new: Planned) -> Planned:
    """A case that two entries ask for, or one that several values of an axis come to."""
    if old.metrics == new.metrics and old.priority == new.priority:
        return new
    return replace(new, metrics=old.metrics | new.metrics, priority=max(old.priority, new.priority))


def _entry_cases(entry: Entry, spec: Spec, where: str, data: str | None, device: str) -> Iterator[Planned]:
    axes = {name: _values(name, value, spec, f"{where}.axes.{name}") for name, value in entry.axes.items()}
    trains = any(METRICS[m].task == "training" for m in entry.metrics)
    if trains != bool(axes.get("data")):
        need = "needs an axis data" if trains else "has an axis data but no metric of training"
        raise UsageError(f"{where}: {need}; data is one of {', '.join(DATA)}")
    if trains and data:
        axes["data"] = [data]
    for name in axes.get("data", ()):
        if reason := catalog.misfit(name, spec.name, spec.kind, spec.shape, entry.metrics):
            raise UsageError(f"{where}.subject: {reason}")
    if trains and (strange := sorted(m for m in entry.metrics if m not in _TRAINING_METRICS)):
        raise UsageError(
            f"{where}.metrics: {strange[0]!r} is not measured in training: give it an entry without data"
        )
    if trains and (problem := _conversion_problem(entry, spec)):
        raise UsageError(f"{where}.{problem}")
    for factor, only in (("dtype", "float32"), ("compile", "none")) if trains else ():
        if unlike := set(axes.get(factor, [only])) - {only}:
            raise UsageError(f"{where}.axes.{factor}: a training has {factor} {only}, not {sorted(unlike)[0]}")
    if entry.controls and ("width_scale" not in spec.shape or (spec.algebras == () and not spec.twin)):
        lacks = "width_scale" if "width_scale" not in spec.shape else "real twin"
        raise UsageError(f"{where}.controls: {spec.name!r} has no {lacks}, so it has no slim control")
    if taken := sorted({*_OTHER_AXES, *FACTOR_VALUES} & set(spec.shape)):
        package = origin(spec.name).package
        raise UsageError(f"{where}.subject: {spec.name!r} of {package} has an axis {taken[0]}, the name of a factor")
    metrics = frozenset(entry.metrics)
    if any(METRICS[m].task == "timing" for m in metrics):
        metrics |= {"numeric_error"}  # no time is published of an answer that was not checked
    if "efficiency" in metrics:
        metrics |= {"arithmetic_intensity"}  # what the roof is drawn for
    combinations = math.prod(map(len, axes.values()))
    if combinations > MOST_CASES:
        raise UsageError(f"{where}.axes: {combinations:,} combinations are more than {MOST_CASES:,}: split the sweep")
    for planned in _product(axes, spec, entry, where, metrics, device):
        yield planned
        if "slim" in entry.controls and planned.case.algebra != "real" and planned.skipped is None:
            yield replace(planned, case=planned.case.slim_control(), controlled=planned.case.controlled)


_CONVERSION_METRICS = ("accuracy_before", "accuracy_projected")


def _conversion_problem(entry: Entry, spec: Spec) -> str | None:
    """What of an entry goes only with a recipe that converts a trained net, or does not go with one."""
    if entry.recipe is None or entry.recipe.start != "project":
        alone = [metric for metric in _CONVERSION_METRICS if metric in entry.metrics]
        return f"metrics: {alone[0]!r} is of a conversion: give the recipe start = 'project'" if alone else None
    if entry.controls:
        return "controls: a converted net has no slim control; leave controls out, or start = 'random'"
    if spec.kind != "model" or spec.algebras == () or spec.twin:
        return f"recipe.start: {spec.name!r} cannot be converted: it is no model of this package over an algebra"
    return None


_TRAINING_METRICS = (*of_task("training"), "params")


def _values(name: str, value: Any, spec: Spec, where: str) -> list[Any]:
    """The checked values of one axis."""
    known = [*_OTHER_AXES, *FACTOR_VALUES, *spec.shape]
    if name not in known:
        raise UsageError(f"{where}: {spec.name!r} has no such axis{near_matches(name, known)}")
    values = value if isinstance(value, list) else [value]
    for item in values:
        if problem := _value_problem(name, item, spec):
            raise UsageError(f"{where}: {problem}")
    return values


def _value_problem(name: str, value: Any, spec: Spec) -> str | None:
    if name == "algebra":
        try:
            find_algebra(value if isinstance(value, str) else repr(value), 1 if value == "ph" else None)
        except ValueError as error:
            return str(error)
        return None
    if name in FACTOR_VALUES:
        allowed = FACTOR_VALUES[name]
        return None if value in allowed else f"{value!r} is none of {', '.join(allowed)}"
    if name == "rank" and value == "generic":
        return None
    if name in ("n", "rank", "threads", "seed"):
        least = 1 if name == "n" else 0
        return None if _whole(value) and value >= least else f"{value!r} is no whole number from {least} up"
    default, words = spec.shape[name], spec.words(name)
    if words:
        return None if value in words else f"{value!r} is none of {', '.join(words)}"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
    if isinstance(default, float):
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LARGEST
        return None if good else f"{value!r} is no positive number below {LARGEST}"
    if isinstance(default, str) or name == "widths":
        return None if isinstance(value, str) else f"{value!r} is no text, such as {default or '16-32-64'!r}"
    return None if _whole(value) and value >= 1 else f"{value!r} is no whole number from 1 up"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value < LARGEST


@dataclass(frozen=True)
class _Variant:
    """What the axes that are no shape make of a subject. case: without a shape yet; plain: its input is no image."""

    algebra: Algebra
    case: Case
    plain: Case
    metrics: frozenset[str]
    skipped: str | None


@dataclass(frozen=True)
class _Form:
    """What the shape axes make of it: a case of that shape; is_image: whether its input has a memory format."""

    shape: Mapping[str, Any]
    case: Case
    is_image: bool


def _product(
    axes: Mapping[str, list[Any]], spec: Spec, entry: Entry, where: str, metrics: frozenset[str], device: str
) -> Iterator[Planned]:
    """All combinations: there may be a hundred thousand, each of a variant and a form that it shares with many.

    What the subject cannot tell apart (the paths of the real layer) comes to the same variant, and comes once.
    """
    names = list(axes)
    shape_at = [i for i, name in enumerate(names) if name in spec.shape]
    other_at = [i for i, name in enumerate(names) if name not in spec.shape]
    shape_of, others_of = _picker(shape_at), _picker(other_at)
    variants: dict[Hashable, _Variant] = {}
    alike: dict[str, _Variant] = {}
    forms: dict[Hashable, _Form] = {}
    seen: set[tuple[int, int]] = set()
    for values in itertools.product(*axes.values()):
        others = others_of(values)
        if (variant := variants.get(others)) is None:
            chosen = {names[i]: values[i] for i in other_at}
            variant = _variant(chosen, spec, entry, where, metrics, device)
            variant = variants[others] = alike.setdefault(repr(variant), variant)
        sides = variant.case.data, shape_of(values)
        if (form := forms.get(sides)) is None:
            form = forms[sides] = _form({names[i]: values[i] for i in shape_at}, spec, variant.case)
        if (pair := (id(variant), id(form))) in seen:
            continue
        seen.add(pair)
        case = (variant.case if form.is_image else variant.plain).in_form_of(form.case)
        reason = variant.skipped or spec.constraints(variant.algebra, form.shape)
        yield Planned(case, variant.metrics, reason, priority=entry.priority)


def _picker(places: Sequence[int]) -> Callable[[tuple[Any, ...]], Hashable]:
    """What tells apart the values that stand at ``places`` of a combination."""
    return itemgetter(*places) if places else lambda values: None


def _variant(
    chosen: Mapping[str, Any], spec: Spec, entry: Entry, where: str, metrics: frozenset[str], device: str
) -> _Variant:
    factors = {key: value for key, value in chosen.items() if key in FACTOR_VALUES or key in ("threads", "seed")}
    name = chosen.get("algebra", "real") if spec.algebras != () else "real"
    n = chosen.get("n")
    if name == "ph" and n is None:
        raise UsageError(f"{where}.axes: algebra 'ph' needs an axis n, for example n = [2, 4]")
    algebra = find_algebra(name, n if name == "ph" else None)
    if algebra.name == "real" or not spec.paths:
        factors["path"] = "none"
    if algebra.learned and (rank := chosen.get("rank")):
        factors["rank"] = generic_rank(algebra.n) if rank == "generic" else rank
    if factors.get("data"):
        factors |= {"phase": "none", "timer": "none"}
        factors["recipe"] = tuple(sorted((entry.recipe or Recipe()).model_dump().items()))
        factors.pop("threads", None)  # trainings run side by side, a thread each
    else:
        factors.pop("seed", None)
    factors |= {"algebra": "none" if spec.algebras == () else algebra.name, "n": algebra.n}
    case = Case(spec.name, spec.kind, shape=(), **factors)
    if case.compile == "none":
        metrics -= {"compile_time"}  # nothing is compiled, so there is nothing that it lacks
    plain = replace(case, memory_format=_CONTIGUOUS)
    return _Variant(algebra, case, plain, metrics, _unfit(case, spec) or unfit(case, device))


_CONTIGUOUS = "contiguous"  # what a case has that has no say in it


def _form(chosen: Mapping[str, Any], spec: Spec, variant: Case) -> _Form:
    shape = {**spec.shape, **chosen}
    shape |= {key: float(shape[key]) for key, default in spec.shape.items() if isinstance(default, float)}
    if variant.data != "none":
        shape |= DATA[variant.data].shape | {"batch": dict(variant.recipe)["batch_size"]}
    return _Form(shape, replace(variant, **_beside(spec, shape)), len(spec.input_shape(shape)) == 4)


def _beside(spec: Spec, shape: Mapping[str, Any]) -> dict[str, Any]:
    """The shape as factors: what a subject has and its twin has not is apart, or they would share no group."""
    shared = set(find(spec.twin).shape if spec.twin else shape)
    return {
        "shape": tuple(sorted((key, value) for key, value in shape.items() if key in shared)),
        "options": tuple(sorted((key, value) for key, value in shape.items() if key not in shared)),
        "twin": spec.twin,
    }


def _unfit(case: Case, spec: Spec) -> str | None:
    """Why the subject cannot run as the execution factors ask."""
    if case.path not in ("none", "auto", "tuned", *spec.paths):
        return f"{spec.name} runs along {', '.join(spec.paths)}, not {case.path}"
    if case.path == "tuned" and case.phase == "none":
        return "a training chooses no path: tune for infer or train_step"
    if case.rank and not spec.ranked:
        return f"{spec.name} takes no rank"
    return None
