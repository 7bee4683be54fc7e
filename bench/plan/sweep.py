"""A sweep: a TOML file of typed axes, checked, then multiplied out into cases. No torch.

Whatever is wrong in the file is a UsageError of one line that names the key and what it may be.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phnn.algebras import Algebra, near_matches
from phnn.algebras import algebra as find_algebra
from phnn.rank import generic_rank
from phnn.registry import Spec, find, origin

from ..errors import UsageError
from ..launch.profile import Bundle, Launch, Place, Profile
from ..metrics import METRICS, of_task
from ..study import catalog
from ..study.catalog import DATA
from ..study.recipe import Recipe
from ..uncollected import uncollected
from .case import Case, Planned
from .factors import FACTOR_VALUES, unfit

_OTHER_AXES = ("algebra", "n", "rank", "threads", "seed")
LARGEST = 2**31  # of any number in an axis: no tensor has such a side
MOST_CASES = 1_000_000  # combinations in an entry: more is a mistake, and would fill the memory before it is seen
_WEEK = 7 * 86400.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Protocol(_Strict):
    """How a sweep is timed.

    processes: fresh processes that repeat each timing task; precision: relative half-width of the median's interval
    at which a process stops; budget: seconds that a process may measure; min_block: seconds that a block lasts at
    least; timeout: seconds after which a task is killed.
    """

    processes: int = Field(default=5, ge=2, le=1000)
    precision: float = Field(default=0.01, gt=0)
    budget: float = Field(default=10.0, gt=0, le=_WEEK)
    min_block: float = Field(default=1e-3, gt=0, le=_WEEK)
    timeout: float = Field(default=900.0, gt=0, le=_WEEK)


class Quick(_Strict):
    """What another form of an entry, for a first look, has in the place of its own: axes, keys of the recipe."""

    axes: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    skip: bool = False


class Entry(_Strict):
    """One product of axes: every combination of the axes' values is a case of each subject.

    priority: the greater, the earlier it is measured, and the sooner it gets a share of ``--time-budget``.
    """

    subject: str | list[str]
    metrics: list[str] = Field(min_length=1)
    axes: dict[str, Any] = {}
    controls: list[Literal["slim"]] = []
    recipe: Recipe | None = None
    quick: Quick = Quick()
    priority: int = Field(default=0, ge=-1000, le=1000)

    @model_validator(mode="after")
    def _quick_is_sound(self) -> Self:
        self.shortened()
        return self

    def shortened(self) -> Entry:
        """The entry of the quick form."""
        recipe = self.recipe
        if self.quick.recipe:
            budget = {"epochs": 0, "steps": 0} if {"epochs", "steps"} & set(self.quick.recipe) else {}
            try:
                recipe = Recipe(**{**(recipe or Recipe()).model_dump(), **budget, **self.quick.recipe})
            except ValidationError as error:  # nested in another one it would be several lines
                raise ValueError(f"quick.recipe: {_first_error(error, Recipe).lstrip(': ')}") from None
        return self.model_copy(update={"axes": {**self.axes, **self.quick.axes}, "recipe": recipe, "quick": Quick()})


class Sweep(_Strict):
    """A sweep file. device: the kind of hardware that it is meant for; launch: where on a cluster that is found.

    name: also that of the folder for its results; plugins: code ("module:attribute") that offers its subjects and is
    installed nowhere: it is loaded only if the user names it too.
    """

    format: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    title: str
    analysis: str = ""
    device: Literal["cpu", "cuda"] = "cpu"
    protocol: Protocol = Protocol()
    launch: Launch = Launch()
    plugins: list[str] = []
    form: Literal["whole", "quick"] = "whole"
    cases: list[Entry] = Field(min_length=1)

    @property
    def quick(self) -> Sweep:
        """The short form, under a name of its own: what it measures is never mixed with what the sweep does."""
        entries = [entry.shortened() for entry in self.cases if not entry.quick.skip]
        if entries == self.cases:
            raise UsageError(f"sweep {self.name!r} has no quick form: none of its entries has a [cases.quick]")
        return self.model_copy(update={"name": f"{self.name}-quick", "cases": entries, "form": "quick"})


def load(path: Path) -> Sweep:
    """Read and check a sweep file."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no sweep file {path}: the project's own are in bench/sweeps/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    try:
        return Sweep.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_error(error)}") from None


def _first_error(error: ValidationError, root: type[BaseModel] | None = None) -> str:
    first, *rest = error.errors(include_url=False, include_context=False)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "is no key of a sweep" + near_matches(
            str(first["loc"][-1]), _keys_beside(first["loc"], root or Sweep)
        )
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{where}: {message}{more}"


def _keys_beside(loc: Sequence[int | str], root: type[BaseModel]) -> list[str]:
    parents: dict[int | str, type[BaseModel]] = {
        "protocol": Protocol, "cases": Entry, "recipe": Recipe, "quick": Quick,
        "launch": Launch, "slurm": Profile, "hardware": Place, "bundle": Bundle,
    }  # fmt: skip
    model = next((parents[part] for part in reversed(loc[:-1]) if part in parents), root)
    return [field.alias or name for name, field in model.model_fields.items()]


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
    """What the axes that are no shape make of a subject, with every factor that it does not take at its default."""

    algebra: Algebra
    factors: Mapping[str, Any]
    metrics: frozenset[str]
    skipped: str | None


@dataclass(frozen=True)
class _Form:
    """What the shape axes make of it; is_image: whether its input has a memory format."""

    shape: Mapping[str, Any]
    factors: Mapping[str, Any]
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
    variants: dict[tuple[Any, ...], _Variant] = {}
    alike: dict[str, _Variant] = {}
    forms: dict[tuple[Any, ...], _Form] = {}
    seen: set[tuple[int, int]] = set()
    for values in itertools.product(*axes.values()):
        others = tuple([values[i] for i in other_at])
        if (variant := variants.get(others)) is None:
            chosen = {names[i]: values[i] for i in other_at}
            variant = _variant(chosen, spec, entry, where, metrics, device)
            variant = variants[others] = alike.setdefault(repr(variant), variant)
        factors = variant.factors
        sides = (factors.get("data"), *[values[i] for i in shape_at])
        if (form := forms.get(sides)) is None:
            form = forms[sides] = _form({names[i]: values[i] for i in shape_at}, spec, factors)
        if (id(variant), id(form)) in seen:
            continue
        seen.add((id(variant), id(form)))
        if not form.is_image and "memory_format" in factors:
            factors = {key: value for key, value in factors.items() if key != "memory_format"}
        case = Case(spec.name, spec.kind, **factors, **form.factors)
        reason = variant.skipped or spec.constraints(variant.algebra, form.shape)
        yield Planned(case, variant.metrics, reason, priority=entry.priority)


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
    return _Variant(algebra, factors, metrics, _unfit(case, spec) or unfit(case, device))


def _form(chosen: Mapping[str, Any], spec: Spec, factors: Mapping[str, Any]) -> _Form:
    shape = {**spec.shape, **chosen}
    shape |= {key: float(shape[key]) for key, default in spec.shape.items() if isinstance(default, float)}
    if data := factors.get("data"):
        shape |= DATA[data].shape | {"batch": dict(factors["recipe"])["batch_size"]}
    return _Form(shape, _beside(spec, shape), len(spec.input_shape(shape)) == 4)


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


def own_sweeps() -> list[Path]:
    """The sweep files that come with the project."""
    return sorted((Path(__file__).parents[1] / "sweeps").glob("*.toml"))
