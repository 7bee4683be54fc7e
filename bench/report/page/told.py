"""What the page says besides its rows: the machine, the protocol, and every failure with the end of its log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ...where import as_text

_TAIL = 4000  # characters of a log
_ALL = 2_000_000  # characters of all logs together
_NAMED = 40  # cases of one failure that are named
_MOST = 300  # failures that are told


@dataclass(frozen=True)
class Run:
    """What a run folder knows besides its table. logs: case id → the log file of a task in which it failed."""

    folder: Path
    title: str = ""
    analysis: str = ""
    sweep: str = ""
    environments: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """One way to fail: how, why, of which cases and metrics, and what the process said last."""

    status: str
    reason: str
    cases: Sequence[str]
    more: int
    log: str
    tail: str


def run_of(folder: Path, lines: Sequence[Mapping[str, Any]]) -> Run:
    """The run in ``folder``, whose finished tasks are ``lines``; what is not there is left empty."""
    import tomllib

    sweep = _text(folder / "sweep.toml")
    try:
        told = tomllib.loads(sweep)
    except tomllib.TOMLDecodeError:
        told = {}
    environments = {}
    for path in sorted(folder.glob("env*.json")):
        try:
            own = json.loads(_text(path))
        except ValueError:
            continue
        environments[str(own.get("env_id", path.stem))] = own
    logs = {}
    for line in lines:
        log = folder / "logs" / f"{line['task_id']}.log"
        for result in line["results"]:
            if result["status"] not in ("ok", "unsupported"):
                logs[result["case_id"]] = log
    return Run(folder, str(told.get("title", "")), str(told.get("analysis", "")), sweep, environments, logs)


def failures(df: pd.DataFrame, logs: Mapping[str, Path], most: int = _MOST) -> tuple[list[Failure], int]:
    """The failures, those of one status and reason together, skipped cases last; how many are left out of them."""
    bad = df[df["status"] != "ok"]
    skipped = (bad["status"] == "skipped").to_numpy()
    bad = pd.concat([bad[~skipped], bad[skipped]])
    kinds = bad.drop_duplicates(["status", "reason"])
    shown = kinds.head(most)
    bad = bad[bad["reason"].isin(shown["reason"])]
    found, left = [], _ALL
    for (status, reason), own in bad.groupby(["status", "reason"], sort=False, dropna=False):
        if len(found) == most:
            break
        failure = _failure(str(status), str(reason), own, logs, left)
        left -= len(failure.tail)
        found.append(failure)
    return found, len(kinds) - len(found)


def _failure(status: str, reason: str, own: pd.DataFrame, logs: Mapping[str, Path], left: int) -> Failure:
    cases = own.drop_duplicates("case_id")
    named = []
    for row in cases.head(_NAMED).itertuples():
        metrics = own.loc[own["case_id"] == row.case_id, "metric"]
        named.append(f"{_case(row)}: {', '.join(metrics.unique())}")
    log = next((logs[case] for case in cases["case_id"] if case in logs), None) if status != "skipped" else None
    name = f"logs/{log.name}" if log else ""
    return Failure(status, reason, named, len(cases) - len(named), name, _tail(log, min(_TAIL, left)) if log else "")


def _case(row: Any) -> str:
    shape = ", ".join(f"{key}={value}" for key, value in json.loads(row.shape).items() if value is not None)
    told = [row.subject, row.variant, *([] if row.path in ("none", "auto") else [row.path]), shape, row.phase]
    return " / ".join(str(part) for part in told if part not in ("", "none"))


def _tail(log: Path, most: int) -> str:
    text = _text(log)
    return text if len(text) <= most else "…" + text[len(text) - most :]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def provenance(df: pd.DataFrame) -> dict[str, str]:
    """Where the rows come from: machines, code revisions, when, and how many of each status."""
    started = as_text(df["started"])
    started = started[started != ""]
    counts = df["status"].value_counts()
    return {
        "records": f"{len(df):,}: " + ", ".join(f"{count:,} {status}" for status, count in counts.items()),
        "machines": ", ".join(sorted(set(as_text(df["env_id"])) - {""})),
        "code": ", ".join(sorted(set(as_text(df["code_rev"])) - {""})),
        "measured": _when(started.min(), started.max()) if len(started) else "",
    }


def _when(first: str, last: str) -> str:
    """A span of times, each to the minute."""
    ends = [text[:16].replace("T", " ") for text in (first, last)]
    end = ends[1].removeprefix(first[:10] + " ")
    return f"{ends[0]} to {end} UTC" if ends[0] != ends[1] else f"{ends[0]} UTC"
