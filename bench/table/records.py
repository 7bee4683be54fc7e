"""From finished tasks to records: one tidy row a metric of a case on a machine, in SI units, failures included.

Records are derived, never measured: deleting a table and deriving it again gives the same rows. What was measured on
several machines stands side by side, a row for each env_id; baselines and verdicts are those of one machine. A case
whose timing tasks are not all in yet has no latency row; a case that failed has a row that says why for every metric
wanted of it.

A sweep may have a million records, so little is done for each: medians and intervals are computed for all at once
(``bench.table.rounds``, ``bench.table.estimates``), and what the rows of a case share is kept once (``Columns``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic_core import to_json

from ..machine.roofs import Roofs
from ..metrics import METRICS
from ..plan.case import FACTORS, Case
from ..plan.planned import PlannedCase, compared, planned_cases
from ..store.lines import SCHEMA
from .findings import Finding, Findings, baselines
from .timed import MEASURED, Machine, Place, Timings, Told, failure, machine_marks

# the shape axes that have a column each; all of them are in ``shape``
SHAPE_COLUMNS = ("batch", "channels", "out_channels", "size", "kernel_size", "width_scale")

COLUMNS = (
    "subject", "twin", "kind", "variant", "algebra", "n", "shape", *SHAPE_COLUMNS, "seed", "phase", "timer",
    "compile", "dtype", "precision", "path", "rank", "threads", "memory_format", "control", "data", "recipe",
    "metric", "unit", "value", "lo", "hi", "samples", "processes", "status", "reason", "marks", "path_built",
    "baseline_id", "details", "case_id", "group_id", "env_id", "code_rev", "schema", "started",
)  # fmt: skip

# A row in four parts, of which its case, its task and what it says are each shared with many rows
OF_CASE = (
    *(name for name in FACTORS if name not in ("shape", "recipe", "options")),
    "shape", *SHAPE_COLUMNS, "recipe", "variant", "baseline_id", "case_id", "group_id", "schema",
)  # fmt: skip
OF_TASK = ("processes", "path_built", "env_id", "code_rev", "started")
SAID = ("metric", "unit", "status", "reason", "marks")
OWN = ("value", "lo", "hi", "samples", "details")

_Said = tuple[str, str, str, str, str]
_OfTask = tuple[int | None, str | None, str | None, str | None, str | None]


class Rows(NamedTuple):
    """Records of one case that share their task and details: SAID, OWN and OF_TASK."""

    said: Sequence[_Said]
    value: Sequence[float | None]
    lo: Sequence[float | None]
    hi: Sequence[float | None]
    samples: Sequence[int | None]
    details: str
    of_task: _OfTask


_BLOCK = 50_000  # records


@dataclass
class Columns:
    """Records, what they share kept once. cases: OF_CASE of each case; of: which of these some rows are of."""

    rows: list[Rows] = field(default_factory=list)
    of: list[int] = field(default_factory=list)
    cases: list[tuple[Any, ...]] = field(default_factory=list)
    records: int = 0

    def add(self, case: tuple[Any, ...], rows: Sequence[Rows]) -> None:
        """The rows of one case on one machine."""
        self.rows += rows
        self.of += [len(self.cases)] * len(rows)
        self.cases.append(case)
        self.records += sum([len(own.said) for own in rows])

    def as_dicts(self) -> list[dict[str, Any]]:
        """The records one by one."""
        found, names = [], OF_CASE + SAID + OWN + OF_TASK
        for of, rows in zip(self.of, self.rows, strict=True):
            for said, *own in zip(rows.said, rows.value, rows.lo, rows.hi, rows.samples, strict=True):
                record = dict(zip(names, (*self.cases[of], *said, *own, rows.details, *rows.of_task), strict=True))
                found.append({column: record[column] for column in COLUMNS})
        return found


def derive(
    plan: Iterable[Mapping[str, Any]], lines: Iterable[Mapping[str, Any]], roofs: Mapping[str, Roofs] | None = None
) -> list[dict[str, Any]]:
    """All records of a run folder, in the order of the plan. roofs: env_id → those of that machine.

    For each case and machine the newest measurement counts; tasks of other code revisions stay in the store.
    """
    return [row for block in blocks(plan, lines, roofs) for row in block.as_dicts()]


def blocks(
    plan: Iterable[Mapping[str, Any]], lines: Iterable[Mapping[str, Any]], roofs: Mapping[str, Roofs] | None = None
) -> Iterator[Columns]:
    """What ``derive`` gives, a bounded number of records at a time."""
    planned, findings = planned_cases(plan), Findings(lines)
    places = [place for own in planned.values() for place in _places(own, findings)]
    machines = {
        env_id: Machine(
            baselines((own.case for own in planned.values()), findings, env_id),
            compared(planned.values(), env_id),
            _roofs_of(env_id, roofs or {}),
        )
        for env_id in dict.fromkeys(place.env_id for place in places)
    }
    timings = Timings(places, findings, machines)
    found = Columns()
    for place in places:
        baseline = machines[place.env_id].baselines.get(place.case.group_id)
        found.add(_of_case(place.planned, baseline), _rows(place, findings, timings))
        findings.forget(*place.key)
        if found.records >= _BLOCK:
            yield found
            found = Columns()
    if found.rows:
        yield found


def _roofs_of(env_id: str | None, roofs: Mapping[str, Roofs]) -> Roofs | str:
    """The roofs of a machine, or why there are none."""
    if env_id is not None and env_id in roofs:
        return roofs[env_id]
    whose = f"those at hand are of {', '.join(roofs)}" if roofs else "there are none"
    return f"no roofs of {env_id}: {whose}; bench env --calibrate, then bench run again"


def _places(own: PlannedCase, findings: Findings) -> Iterator[Place]:
    """Where a planned case has rows: on each machine that measured or skipped it; on none if it is skipped on all."""
    case, anywhere = own.case, own.by_env.get(None)
    if anywhere is not None and anywhere.skipped is not None:
        yield Place(own, case, None, anywhere, (case.id, None))
    for env_id in dict.fromkeys([*findings.envs_of(case.id), *own.by_env]):
        asked = own.asked(env_id)
        if env_id is not None and (asked is not anywhere or asked.skipped is None):
            yield Place(own, case, env_id, asked, (case.id, env_id))


def _rows(place: Place, findings: Findings, timings: Timings) -> list[Rows]:
    """The rows of a case on a machine, in the order of the table of metrics; none while their tasks are not in."""
    wanted = place.asked.metrics
    rows: list[Rows] = []
    if place.asked.skipped is not None:
        skipped = Told("skipped", place.asked.skipped)
        return [_same(_ordered(wanted, "training"), skipped, "{}", (None, None, place.env_id, None, None))]
    for kind in ("training",) if place.case.data != "none" else ("static", "timing"):
        own = findings.of(place.case.id, place.env_id, kind)
        if not own:
            continue
        last = own[-1]
        of_task = len(own), last.path_built or None, place.env_id, last.task.code_rev, own[0].task.started
        if failed := next((f for f in own if f.status not in MEASURED), None):
            rows.append(_same(_ordered(wanted, kind), Told(failed.status, failed.reason), _text(last.told), of_task))
        elif kind == "timing":
            rows += _timed(place, own, timings, of_task)
        else:
            rows += _counted(_ordered(wanted, kind), last, of_task)
    return rows


def _same(metrics: Sequence[str], told: Told, details: str, of_task: _OfTask) -> Rows:
    """That no metric of a case has a value, for one reason."""
    said: list[_Said] = [(metric, _UNITS[metric], told.status, told.reason, "") for metric in metrics]
    nothing = [None] * len(said)
    return Rows(said, nothing, nothing, nothing, nothing, details, of_task)


@cache
def _ordered(metrics: frozenset[str], kind: str) -> tuple[str, ...]:
    """Metrics in the order of their table: what a task of this kind yields; a training yields all of its case."""
    return tuple(name for name in METRICS if name in metrics and kind in ("training", METRICS[name].task))


def _counted(metrics: Sequence[str], last: Finding, of_task: _OfTask) -> Iterator[Rows]:
    """The rows of a static task or a training; none of what it was not asked for: the next run measures it."""
    values, text = last.values, _text(last.told)
    if last.status == "ok" and not last.unsupported and not last.failed and _CURVES.isdisjoint(last.told):
        said, nothing, once = _all_counted(have := tuple([metric for metric in metrics if metric in values]))
        yield Rows(said, [values[metric] for metric in have], nothing, nothing, once, text, of_task)
        return
    # no second text where there is nothing long: a sweep may have a million records
    brief = _text({key: value for key, value in last.told.items() if key not in _CURVES})
    for metric in metrics:
        if reason := last.unsupported.get(metric):
            yield _row(metric, Told("unsupported", reason), text, of_task)
        elif lacking := failure(last, metric):
            yield _row(metric, lacking, text, of_task)
        elif metric not in values:
            continue
        else:
            said_of = _COUNTED[metric]
            if metric == "numeric_error" and last.status == "wrong":
                said_of = (metric, _UNITS[metric], "wrong", last.reason, "")
            yield Rows([said_of], [values[metric]], [None], [None], [1], text, of_task)
        text = brief


@cache
def _all_counted(metrics: tuple[str, ...]) -> tuple[Sequence[_Said], Sequence[None], Sequence[int]]:
    """Of these metrics, where nothing failed: what their rows say, that they have no ends, and one sample each."""
    return [_COUNTED[metric] for metric in metrics], [None] * len(metrics), [1] * len(metrics)


_UNITS = {name: metric.unit for name, metric in METRICS.items()}
# trainings share the machine with each other
_COUNTED = {
    name: (name, unit, "ok", "", "contended" if name == "train_time" else "") for name, unit in _UNITS.items()
}
_CURVES = frozenset({"curve", "curve_before", "projection_error"})  # long: in one row of a case, not in each


def _timed(place: Place, own: Sequence[Finding], timings: Timings, of_task: _OfTask) -> Iterator[Rows]:
    """The rows of what was timed, as far as all that they take is in."""
    for metric in _ordered(place.asked.metrics, "timing"):
        if told := timings.told(metric, place, own):
            marks = machine_marks(metric, own) if told.estimate else []
            yield _row(metric, told, _text({**own[-1].told, **told.details}), of_task, marks)


def _row(metric: str, told: Told, details: str, of_task: _OfTask, machine: Sequence[str] = ()) -> Rows:
    value, lo, hi, marks = told.estimate or (None, None, None, "")
    if lo is None or math.isnan(lo):
        lo = hi = None
    earned = ",".join([marks, *machine] if marks else machine)
    said = metric, _UNITS[metric], told.status, told.reason, earned
    return Rows([said], [value], [lo], [hi], [told.samples], details, of_task)


_json = json.JSONEncoder(sort_keys=True).encode


def _text(details: Mapping[str, Any]) -> str:
    """As JSON, in a tenth of the time that the standard library takes: it is most of what a row costs."""
    return to_json(dict(sorted(details.items())), inf_nan_mode="constants").decode()


def _of_case(own: PlannedCase, baseline_id: str | None) -> tuple[Any, ...]:
    case = own.case
    axes = case.shape + case.options
    return (
        *_plain_of(case), *_shape(axes, tuple([type(value) for _, value in axes])),
        _json(dict(case.recipe)) if case.recipe else "{}", variant(case, own.controlled), baseline_id,
        case.id, case.group_id, SCHEMA,
    )  # fmt: skip


_plain_of = attrgetter(*OF_CASE[: OF_CASE.index("shape")])


@lru_cache(maxsize=4096)
def _shape(axes: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> tuple[Any, ...]:
    # types: 1 and 1.0 and True are equal, and their columns are not
    shape = dict(axes)
    numbers = [_number(shape.get(name), float if name == "width_scale" else int) for name in SHAPE_COLUMNS]
    return _json(shape), *numbers


def _number(value: Any, of: type) -> Any:
    """A value that fits a column of numbers; another package's layer may call a word its size."""
    return value if type(value) is of else None


def variant(case: Case, controlled: Case | None = None) -> str:
    """What a figure calls a case: real, quaternion, ph n=4, slim real (ph n=4), the subject that has a twin."""
    if controlled is not None:
        return f"slim real ({variant(controlled)})"
    rank = f" rank={case.rank}" if case.rank else ""
    over = f"ph n={case.n}{rank}" if case.algebra == "ph" else case.algebra
    if not case.twin:
        return over
    options = [f"{key}={value}" for key, value in case.options]
    return " ".join([case.subject, *options, *([] if case.algebra == "none" else [over])])


def missing(plan: Iterable[Mapping[str, Any]], records: Iterable[Mapping[str, Any]]) -> int:
    """How many rows the plan asks for that no finished task has given yet."""
    have = {(record["case_id"], record["metric"], record["env_id"]) for record in records}
    anywhere = {(case_id, metric) for case_id, metric, _ in have}
    lacking = set()
    for own in planned_cases(plan).values():
        for env_id, asked in own.by_env.items():
            of_case = {(own.case.id, metric, env_id) for metric in asked.metrics}
            lacking |= {key for key in of_case if (key[:2] not in anywhere if env_id is None else key not in have)}
    return len(lacking)
