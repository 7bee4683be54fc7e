"""What the timings of a case say: latency, ratio to the baseline, efficiency, energy, and why there is none.

The intervals of all cases are computed before the first row is made, a call for thousands of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..machine.roofs import Roofs, arithmetic_of, roof
from ..plan.case import Case
from ..plan.planned import Asked, PlannedCase
from ..stats import MARGIN, Interval, percentiles, verdict, verdict_level
from .estimates import Estimate, estimates, intervals_at
from .findings import Finding, Findings

MEASURED = ("ok", "wrong")  # the statuses of what ran to its end
PERCENTILES = (0.5, 0.9, 0.99)  # of a latency, where single calls were timed and there are samples enough
_INTENSITY = "arithmetic_intensity"  # the metric whose count of operations and bytes efficiency is made of
_CHECK = "numeric_error"  # the metric without which no time is published
_NAMES = tuple(f"p{100 * share:g}" for share in PERCENTILES)

Key = tuple[str, str | None]


class Place(NamedTuple):
    """A planned case on a machine, or on none if it is skipped wherever; key: its id and that machine's."""

    planned: PlannedCase
    case: Case
    env_id: str | None
    asked: Asked
    key: Key


@dataclass(frozen=True, slots=True)
class Machine:
    """What holds for all cases on one machine. compared: group → comparisons that its verdicts answer for.

    roofs: or why it has none.
    """

    baselines: Mapping[str, str]
    compared: Mapping[str, int]
    roofs: Roofs | str

    def among(self, case: Case) -> int:
        return self.compared.get(case.group_id, 1)


class Told(NamedTuple):
    """What a row says besides whose it is; details: those of its own, beside the task's."""

    status: str = "ok"
    reason: str = ""
    estimate: Estimate | None = None
    samples: int | None = None
    details: Mapping[str, Any] = MappingProxyType({})


class Timings:
    """The timed rows of all ``places``."""

    def __init__(self, places: Sequence[Place], findings: Findings, machines: Mapping[str | None, Machine]) -> None:
        self.findings, self.machines = findings, machines
        self.latencies: dict[Key, Estimate] = {}
        self.ratios: dict[Key, Estimate] = {}
        self.judged: dict[Key, Estimate] = {}
        self._withheld: dict[Key, Told | None] = {}  # why a case has no times; asked by each of its metrics
        self._baseless: dict[Key, Told | None] = {}  # why a baseline is none; asked by each case of its group
        by_count: dict[int, list[tuple[Place, list[Finding]]]] = defaultdict(list)
        for place in places:
            own = findings.of(place.case.id, place.env_id, "timing")
            if own and all(f.span[1] for f in own):
                by_count[len(own)].append((place, own))
        for count, timed in by_count.items():
            self._estimate(count, timed)

    def _estimate(self, count: int, timed: Sequence[tuple[Place, list[Finding]]]) -> None:
        """All latencies and ratios that so many processes tell."""
        medians = self.findings.medians[[f.at for _, own in timed for f in own]].reshape(-1, count, 3)
        self.latencies |= dict(zip([place.key for place, _ in timed], estimates(medians), strict=True))
        beside = [(place, own, theirs) for place, own in timed if (theirs := self._baseline_of(place, own))]
        mine = [f.span for _, own, _ in beside for f in own]
        ratios = self.findings.rounds.medians(mine, [f.span for *_, theirs in beside for f in theirs])
        ratios, keys = ratios.reshape(-1, count, 3), [place.key for place, *_ in beside]
        levels = [verdict_level(self.machines[place.env_id].among(place.case)) for place, *_ in beside]
        self.ratios |= dict(zip(keys, estimates(ratios), strict=True))
        self.judged |= dict(zip(keys, intervals_at(levels, ratios), strict=True))

    def told(self, metric: str, place: Place, own: Sequence[Finding]) -> Told | None:
        """What the row of a timed metric says; None while what it takes is not in."""
        static = self.findings.of(place.case.id, place.env_id, "static")
        if not static and _CHECK in place.asked.metrics:  # not yet; what others measured has none to wait for
            return None
        if place.key not in self._withheld:  # a tuned case is checked in the processes that timed it too
            self._withheld[place.key] = _withheld("its time is not published", [*static, *own])
        if withheld := self._withheld[place.key]:
            return withheld
        if metric == "latency":
            return self._latency(place, own)
        if metric == "latency_ratio":
            return self._ratio(place, own)
        return self._efficiency(place, own) if metric == "efficiency" else _one_each(metric, own)

    def _baseline_of(self, place: Place, own: Sequence[Finding]) -> list[Finding]:
        """What each process found of the baseline; nothing where the case is not to be compared with it."""
        baseline = self.machines[place.env_id].baselines.get(place.case.group_id)
        if baseline is None or baseline == place.case.id or "latency_ratio" not in place.asked.metrics:
            return []
        found = [(f, self.findings.beside(f, baseline)) for f in own]
        theirs = [other for f, other in found if other and other.status == "ok" and other.span[1]]
        return theirs if len(theirs) == len(own) else []

    def _latency(self, place: Place, own: Sequence[Finding]) -> Told | None:
        if place.key not in self.latencies:
            return None
        details = _percentiles(own, self.findings)
        return Told(estimate=self.latencies[place.key], samples=_samples(own), details=details)

    def _ratio(self, place: Place, own: Sequence[Finding]) -> Told | None:
        case, machine = place.case, self.machines[place.env_id]
        baseline = machine.baselines.get(case.group_id)
        if baseline is None:
            beside = f"subject {case.twin!r} with " if case.twin else ""
            return Told("unsupported", f"the group has no baseline: add {beside}algebra 'real'")
        if (beneath := (baseline, place.env_id)) not in self._baseless:
            static = self.findings.of(baseline, place.env_id, "static")
            if not static and _CHECK in place.asked.metrics:
                return None
            self._baseless[beneath] = _withheld("the baseline", static)
        if withheld := self._baseless[beneath]:
            return withheld
        if case.id == baseline:
            return Told(estimate=Estimate(1.0, 1.0, 1.0), samples=_samples(own))
        if place.key not in self.ratios:
            theirs = [self.findings.beside(f, baseline) for f in own]
            failed = next((other for other in theirs if other and other.status != "ok"), None)
            # without a failure: timed before the sweep had a baseline, and the next run times it again
            return Told(failed.status, f"the baseline: {failed.reason}") if failed else None
        found, among = self.judged[place.key], machine.among(case)
        said = {
            "verdict": verdict(Interval(found.value, found.lo, found.hi), MARGIN),
            "margin": MARGIN,
            "compared": among,
            "verdict_level": verdict_level(among),
        }
        return Told(estimate=self.ratios[place.key], samples=_samples(own), details=said)

    def _efficiency(self, place: Place, own: Sequence[Finding]) -> Told | None:
        """The share of the roof that a case reaches: the least seconds that its call could take, over its latency."""
        static = self.findings.of(place.case.id, place.env_id, "static")
        if not static or place.key not in self.latencies:
            return None
        counted = static[-1]
        if lacking := failure(counted, _INTENSITY):
            return lacking._replace(reason=f"its operations were not counted: {lacking.reason}")
        traffic = counted.told.get("traffic")
        if traffic is None:  # counted before efficiency was asked for: the next run counts it again
            return None
        roofs = self.machines[place.env_id].roofs
        if isinstance(roofs, str):
            return Told("unsupported", roofs)
        above = roof(
            roofs,
            flop=traffic["flop"],
            moved=traffic["bytes"],
            arithmetic=arithmetic_of(place.case.factors),
            threads=own[-1].told.get("threads", 0),
            cold=place.case.timer.endswith("_cold"),
        )
        if isinstance(above, str):
            return Told("unsupported", above)
        taken = self.latencies[place.key]
        share = Estimate(above.seconds / taken.value, above.seconds / taken.hi, above.seconds / taken.lo, taken.marks)
        return Told(estimate=share, samples=_samples(own), details={"roof": asdict(above)})


def failure(finding: Finding, metric: str) -> Told | None:
    """What kept a case, or one metric of it, from a value."""
    if finding.status not in MEASURED:
        return Told(finding.status, finding.reason)
    if lacks := finding.failed.get(metric):
        return Told(lacks["status"], lacks["reason"])
    return None


def _withheld(what: str, checks: Sequence[Finding]) -> Told | None:
    """Why times are not told of a case whose answer these found wrong, or could not check."""
    if all(f.status == "ok" and not f.failed and not f.unsupported for f in checks):
        return None
    if wrong := wrong_reason(checks):  # a fast wrong answer has no speed
        return Told("wrong", f"{what}: {wrong}")
    if unchecked := _unchecked(checks):
        return unchecked._replace(reason=f"{what}, unchecked: {unchecked.reason}")
    return None


def wrong_reason(static: Sequence[Finding]) -> str:
    """Why the answer of a case is wrong; empty if it is not."""
    return next((f.reason for f in static if f.status == "wrong"), "")


def _unchecked(checks: Sequence[Finding]) -> Told | None:
    """What kept the answer of a case from being checked."""
    for finding in checks:
        if lacking := failure(finding, _CHECK):
            return lacking
        if _CHECK in finding.unsupported:
            return Told("unsupported", finding.unsupported[_CHECK])
    return None


def machine_marks(metric: str, own: Sequence[Finding]) -> list[str]:
    """What happened to the machine in any of the processes while this metric was measured."""
    if metric == "compile_time":  # before anything is watched
        return []
    return sorted({mark for f in own for mark in (f.energy_marks if metric == "energy" else f.marks)})


def _samples(own: Sequence[Finding]) -> int:
    return sum(f.span[1] for f in own)


def _one_each(metric: str, own: Sequence[Finding]) -> Told | None:
    """A metric of which every process has one value (energy, compile_time), or why one has none."""
    if reason := next((r for f in own if (r := f.unsupported.get(metric))), None):
        return Told("unsupported", reason)
    if lacking := next((told for f in own if (told := failure(f, metric))), None):
        return lacking
    if any(metric not in f.values for f in own):  # measured before it was asked for
        return None
    (found,) = estimates(np.array([[(f.values[metric], math.nan, math.nan) for f in own]]))
    return Told(estimate=found, samples=len(own))


def _percentiles(own: Sequence[Finding], findings: Findings) -> dict[str, Any]:
    """Percentiles of single calls over all processes, each a number or null, and why it is null."""
    calls = max(f.calls for f in own)
    if calls > 1:  # a mean of calls has their mean, not their percentiles
        return {
            "percentiles": dict.fromkeys(_NAMES),
            "percentiles_lack": f"a sample is the mean of {calls} calls",
        }
    found = percentiles(findings.rounds.of([f.span for f in own]), PERCENTILES)
    lacking = "; ".join(p.reason for p in found if p.reason)
    values = {name: p.value for name, p in zip(_NAMES, found, strict=True)}
    return {"percentiles": values, **({"percentiles_lack": lacking} if lacking else {})}
