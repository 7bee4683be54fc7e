"""Everything that has no figure: how, why, of which cases, and what the process said last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .run import Log, Logs

_TAIL = 4000  # characters of a log
_ALL = 2_000_000  # characters of all logs together
_NAMED = 40  # cases of one failure that are named
_MOST = 300  # failures that are told


@dataclass(frozen=True)
class Failure:
    """One way to fail. more: how many cases are not named; log: its file; tail: the end of it."""

    status: str
    reason: str
    cases: Sequence[str]
    more: int
    log: str
    tail: str


def failures(df: pd.DataFrame, logs: Logs, most: int = _MOST) -> tuple[list[Failure], int]:
    """The failures, those of one status and reason together, skipped cases last; how many are left out of them."""
    bad = df[df["status"] != "ok"]
    skipped = (bad["status"] == "skipped").to_numpy()
    bad = pd.concat([bad[~skipped], bad[skipped]], ignore_index=True)
    kind = bad.groupby(["status", "reason"], sort=False, dropna=False).ngroup()
    found, left = [], _ALL
    for _, own in bad[kind < most].groupby(kind, sort=False):
        found.append(_failure(own, logs, min(_TAIL, left)))
        left -= len(found[-1].tail)
    return found, max(0, kind.nunique() - most)


def _failure(own: pd.DataFrame, logs: Logs, most: int) -> Failure:
    first, cases = own.iloc[0], own.drop_duplicates(["case_id", "env_id"])
    named = []
    for row in cases.head(_NAMED).itertuples():
        metrics = own.loc[own["case_id"] == row.case_id, "metric"]
        named.append(f"{_case(row)}: {', '.join(metrics.unique())}")
    of_cases = ((str(row.case_id), str(row.env_id)) for row in cases.itertuples())
    log = next((logs[key] for key in of_cases if key in logs), Log()) if first["status"] != "skipped" else Log()
    return Failure(
        str(first["status"]), str(first["reason"]), named, len(cases) - len(named), log.name, log.tail(most)
    )


def _case(row: Any) -> str:
    shape = ", ".join(f"{key}={value}" for key, value in json.loads(row.shape).items() if value is not None)
    told = [row.subject, row.variant, *([] if row.path in ("none", "auto") else [row.path]), shape, row.phase]
    return " / ".join(str(part) for part in told if part not in ("", "none"))
