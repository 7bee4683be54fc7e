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
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any

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

# what a row has of its own, the last of them alike in all that one task told of a case; the other columns it shares
# with all rows of its case on that machine
OWN = (
    "metric", "unit", "value", "lo", "hi", "samples", "status", "reason", "marks", "details",
    "processes", "path_built", "env_id", "code_rev", "started",
)  # fmt: skip


SHARED = tuple(column for column in COLUMNS if column not in OWN)

_BLOCK = 50_000  # records


@dataclass
class Columns:
    """Records in two parts. own: the values of OWN; shared: those of SHARED; of: which of these a record has."""

    own: list[tuple[Any, ...]] = field(default_factory=list)
    shared: list[tuple[Any, ...]] = field(default_factory=list)
    of: list[int] = field(default_factory=list)

    def add(self, shared: tuple[Any, ...], own: Sequence[tuple[Any, ...]]) -> None:
        """The rows of one case on one machine."""
        self.own += own
        self.of += [len(self.shared)] * len(own)
        self.shared.append(shared)

    def rows(self) -> list[dict[str, Any]]:
        """The records as dicts."""
        rows = []
        for of, own in zip(self.of, self.own, strict=True):
            row = dict(zip(SHARED + OWN, self.shared[of] + own, strict=True))
            rows.append({column: row[column] for column in COLUMNS})
        return rows


def derive(
    plan: Iterable[Mapping[str, Any]], lines: Iterable[Mapping[str, Any]], roofs: Mapping[str, Roofs] | None = None
) -> list[dict[str, Any]]:
    """All records of a run folder, in the order of the plan. roofs: env_id → those of that machine.

    For each case and machine the newest measurement counts; tasks of other code revisions stay in the store.
    """
    return [row for block in blocks(plan, lines, roofs) for row in block.rows()]


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
        found.add(_shared(place.planned, baseline), _rows(place, findings, timings))
        findings.forget(*place.key)
        if len(found.own) >= _BLOCK:
            yield found
            found = Columns()
    if found.own:
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


_Whose = tuple[int | None, str | None, str | None, str | None, str | None]  # the last five of OWN


def _rows(place: Place, findings: Findings, timings: Timings) -> list[tuple[Any, ...]]:
    """The rows of a case on a machine, in the order of the table of metrics; none while their tasks are not in."""
    wanted = place.asked.metrics
    rows: list[tuple[Any, ...]] = []
    if place.asked.skipped is not None:
        of_none, skipped = (None, None, place.env_id, None, None), Told("skipped", place.asked.skipped)
        return [_row(metric, skipped, "{}", of_none) for metric in _ordered(wanted, "training")]
    for kind in ("training",) if place.case.data != "none" else ("static", "timing"):
        own = findings.of(place.case.id, place.env_id, kind)
        if not own:
            continue
        last = own[-1]
        of_task = len(own), last.path_built or None, place.env_id, last.task.code_rev, own[0].task.started
        failed = next((f for f in own if f.status not in MEASURED), None)
        if failed:
            told, text = Told(failed.status, failed.reason), _text(last.told)
            rows += [_row(metric, told, text, of_task) for metric in _ordered(wanted, kind)]
        elif kind == "timing":
            rows += _timed(place, own, timings, of_task)
        else:
            rows += _counted(_ordered(wanted, kind), last, of_task)
    return rows


@cache
def _ordered(metrics: frozenset[str], kind: str) -> tuple[str, ...]:
    """Metrics in the order of their table: what a task of this kind yields; a training yields all of its case."""
    return tuple(name for name in METRICS if name in metrics and kind in ("training", METRICS[name].task))


def _counted(metrics: Iterable[str], last: Finding, of_task: _Whose) -> list[tuple[Any, ...]]:
    """The rows of a static task or a training; none of what it was not asked for: the next run measures it."""
    text, rows = _text(last.told), []
    brief = text  # no second text where there is nothing long: a sweep may have a million records
    if not _CURVES.isdisjoint(last.told):
        brief = _text({key: value for key, value in last.told.items() if key not in _CURVES})
    for metric in metrics:
        if reason := last.unsupported.get(metric):
            rows.append(_row(metric, Told("unsupported", reason), text, of_task))
        elif lacking := failure(last, metric):
            rows.append(_row(metric, lacking, text, of_task))
        elif (value := last.values.get(metric)) is None:
            continue
        elif metric == "numeric_error" and last.status == "wrong":
            rows.append((metric, _UNITS[metric], value, None, None, 1, "wrong", last.reason, "", text, *of_task))
        elif metric == "train_time":  # trainings share the machine with each other
            rows.append((metric, _UNITS[metric], value, None, None, 1, "ok", "", "contended", text, *of_task))
        else:
            rows.append((metric, _UNITS[metric], value, None, None, 1, "ok", "", "", text, *of_task))
        text = brief
    return rows


_CURVES = frozenset({"curve", "curve_before", "projection_error"})  # long: in one row of a case, not in each


def _timed(place: Place, own: Sequence[Finding], timings: Timings, of_task: _Whose) -> Iterator[tuple[Any, ...]]:
    """The rows of what was timed, as far as all that they take is in."""
    for metric in _ordered(place.asked.metrics, "timing"):
        if told := timings.told(metric, place, own):
            marks = machine_marks(own) if told.estimate else []
            yield _row(metric, told, _text({**own[-1].told, **told.details}), of_task, marks)


def _row(metric: str, told: Told, details: str, of_task: _Whose, machine: Sequence[str] = ()) -> tuple[Any, ...]:
    value, lo, hi, marks = told.estimate or (None, None, None, "")
    ends = (None, None) if lo is None or math.isnan(lo) else (lo, hi)
    earned = ",".join([marks, *machine] if marks else machine)
    return metric, _UNITS[metric], value, *ends, told.samples, told.status, told.reason, earned, details, *of_task


_UNITS = {name: metric.unit for name, metric in METRICS.items()}
_json = json.JSONEncoder(sort_keys=True).encode


def _text(details: Mapping[str, Any]) -> str:
    """As JSON, in a tenth of the time that the standard library takes: it is most of what a row costs."""
    return to_json(dict(sorted(details.items())), inf_nan_mode="constants").decode()


def _shared(own: PlannedCase, baseline_id: str | None) -> tuple[Any, ...]:
    case = own.case
    shape = {**dict(case.shape), **dict(case.options)}
    values = {
        **dict(zip(_PLAIN, _plain_of(case), strict=True)),
        "shape": _json(shape),
        "recipe": _json(dict(case.recipe)) if case.recipe else "{}",
        **{name: _number(shape.get(name), float if name == "width_scale" else int) for name in SHAPE_COLUMNS},
        "variant": variant(case, own.controlled),
        "baseline_id": baseline_id,
        "case_id": case.id,
        "group_id": case.group_id,
        "schema": SCHEMA,
    }
    return _in_order(values)


_PLAIN = tuple(name for name in FACTORS if name not in ("shape", "recipe", "options"))
_plain_of = attrgetter(*_PLAIN)
_in_order = itemgetter(*SHARED)


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
