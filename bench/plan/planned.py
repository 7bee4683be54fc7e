"""What a plan asks: of each case its metrics, or why it is skipped, on any machine or on one that a line names.

A run asks it of whatever machine it runs on. In a folder that ``bench merge`` made each line names the machine whose
run planned it: what one machine skips, another may have measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .case import Case


@dataclass(slots=True)
class Asked:
    """What is asked of a case. skipped: why none of its metrics can be had."""

    metrics: frozenset[str]
    skipped: str | None


@dataclass(slots=True)
class PlannedCase:
    """A case with what is asked of it by machine; None: on whichever it is measured."""

    case: Case
    controlled: Case | None
    by_env: dict[str | None, Asked] = field(default_factory=dict)

    def asked(self, env_id: str | None) -> Asked:
        """What is asked of it on a machine; where no line speaks of that one, what is asked anywhere."""
        found = self.by_env.get(env_id) or self.by_env.get(None)
        return found or next(iter(self.by_env.values()))


def planned_cases(plan: Iterable[Mapping[str, Any]]) -> dict[str, PlannedCase]:
    """The cases of a plan by id, in its order.

    A newer line adds metrics to those of the older ones, and says anew whether the case is skipped.
    """
    found: dict[str, PlannedCase] = {}
    for line in plan:
        case = Case.from_factors(line["case"])
        controlled = Case.from_factors(line["controlled"]) if line.get("controlled") else None
        own = found.setdefault(case.id, PlannedCase(case, controlled))
        own.controlled = controlled
        env_id = line.get("env_id")
        metrics, before = _metrics(tuple(line["metrics"])), own.by_env.get(env_id)
        own.by_env[env_id] = Asked(before.metrics | metrics if before else metrics, line["skipped"])
    return found


@cache
def _metrics(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)  # the same object for most cases of a plan


def compared(planned: Iterable[PlannedCase], env_id: str | None) -> Counter[str]:
    """Group → how many of its cases the plan compares with the baseline; their verdicts are to hold together.

    What the plan asks for, not what is in: a verdict does not change because another case failed or is still to come.
    """
    wanted: Counter[str] = Counter()
    for own in planned:
        asked = own.asked(env_id)
        if asked.skipped is None and "latency_ratio" in asked.metrics:
            wanted[own.case.group_id] += 1
    return Counter({group: max(1, count - 1) for group, count in wanted.items()})
